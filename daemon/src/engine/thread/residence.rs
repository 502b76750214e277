//! Which models are in memory: brought in one at a time within the budget, let go when nobody uses them, when others need
//! their room, or when their files change.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use eddy_ipc::{Error, Result};

use super::{CHANGED, Worker};
use crate::engine::job::{Ending, Loaded};
use crate::engine::room::{Tenant, make_room};
use crate::engine::slot::{Folder, Slot, State};
use crate::engine::status::Counters;

impl<M: Send + 'static> Worker<M> {
    /// Begins to bring a model into memory, unless it is on its way.
    pub(super) fn want(&mut self, name: &str) -> Result<()> {
        let tenants = self.tenants(|slot| slot.pinned);
        let slot = self.slots.get_mut(name).ok_or_else(|| Error::not_found("model", name))?;
        match slot.state {
            State::Loaded { .. } if !slot.leaving => return Ok(()),
            State::Wanted | State::Loading => return Ok(()),
            // On the way out; it comes back after the one that it makes room for.
            State::Loaded { .. } => {}
            State::Unloaded | State::Failed { .. } => {
                make_room(&tenants, slot.folder.bytes, self.options.budget)
                    .map_err(|no_room| Error::TooLarge(format!("the model {name} cannot be loaded: {no_room}")))?;
                slot.state = State::Wanted;
                self.changed = true;
            }
        }
        if !self.wanted.iter().any(|wanted| wanted == name) {
            self.wanted.push(name.to_owned());
        }
        Ok(())
    }

    /// The models in memory, numbered in the order of `slots`; those that `kept` names stay there.
    fn tenants(&self, kept: impl Fn(&Slot<M>) -> bool) -> Vec<Tenant> {
        self.slots
            .values()
            .enumerate()
            .filter(|(_, slot)| slot.is_loaded())
            .map(|(index, slot)| Tenant {
                index,
                bytes: slot.folder.bytes,
                last_used: slot.last_used,
                pinned: kept(slot),
            })
            .collect()
    }

    pub(super) fn start_loads(&mut self) {
        while self.loading.is_none() && !self.wanted.is_empty() {
            let name = self.wanted[0].clone();
            let Some(slot) = self.slots.get(&name) else {
                self.wanted.remove(0);
                continue;
            };
            if slot.is_loaded() && !slot.leaving {
                self.wanted.remove(0);
                continue;
            }
            let (bytes, returning) = (slot.folder.bytes, slot.is_loaded());
            if returning {
                // Its own leaving comes first: whoever needed the room has been served, or it would not be first.
                self.let_all_stay();
                self.release_waiting(&name);
                self.wanted.remove(0);
                continue;
            }
            let victims = match make_room(&self.tenants(|slot| slot.pinned), bytes, self.options.budget) {
                Ok(victims) => victims,
                Err(no_room) => {
                    self.wanted.remove(0);
                    self.let_all_stay();
                    self.set_state(&name, State::Unloaded);
                    let sentence = format!("the model {name} cannot be loaded: {no_room}");
                    self.refuse(&name, || Some(Error::TooLarge(sentence.clone())));
                    continue;
                }
            };
            let mut blocked = false;
            let names: Vec<String> = self.slots.keys().cloned().collect();
            for victim in victims {
                let Some(slot) = self.slots.get_mut(&names[victim]) else { continue };
                slot.leaving = true;
                if slot.users > 0 {
                    blocked = true;
                } else {
                    self.unload(&names[victim]);
                }
            }
            if blocked {
                return;
            }
            self.wanted.remove(0);
            self.let_all_stay();
            self.load(&name);
        }
    }

    fn let_all_stay(&mut self) {
        self.slots.values_mut().for_each(|slot| slot.leaving = false);
    }

    fn load(&mut self, name: &str) {
        let Some(slot) = self.slots.get_mut(name) else { return };
        slot.state = State::Loading;
        let (loader, folder, back) = (Arc::clone(&self.loader), slot.folder.clone(), self.loads.0.clone());
        let spawned = std::thread::Builder::new().name("load".into()).spawn(move || {
            let begun = Instant::now();
            let result = std::panic::catch_unwind(AssertUnwindSafe(|| loader.load(&folder)))
                .unwrap_or_else(|_| Err("loading it failed in an unexpected way; the log has the details".into()));
            match &result {
                Ok(_) => tracing::info!(model = folder.name, seconds = begun.elapsed().as_secs_f64(), "model loaded"),
                Err(reason) => tracing::warn!(model = folder.name, reason, "model cannot be loaded"),
            }
            let _ = back.send((folder.name, result));
        });
        match spawned {
            Ok(thread) => self.loading = Some(thread),
            Err(error) => self.loaded(name, Err(format!("no thread to load it: {error}"))),
        }
        self.changed = true;
    }

    pub(super) fn join_load(&mut self) {
        if let Some(thread) = self.loading.take() {
            let _ = thread.join();
        }
    }

    pub(super) fn loaded(&mut self, name: &str, result: std::result::Result<Loaded<M>, String>) {
        self.join_load();
        self.changed = true;
        let Some(slot) = self.slots.get_mut(name) else { return };
        let reason = result.as_ref().err().cloned();
        slot.settle(result);
        match reason {
            None => {
                Counters::add(&self.ties.counters.loads);
                self.release_waiting(name);
            }
            Some(reason) => {
                self.refuse(name, || Some(Error::model_failed(name, &reason)));
                // What failed may be no longer what is there.
                if let Some(slot) = self.slots.get_mut(name) {
                    slot.renew();
                }
            }
        }
        // What happened to its files while it was read.
        self.inspect();
    }

    /// Lets the jobs run that have waited for a model.
    fn release_waiting(&mut self, name: &str) {
        let Some(slot) = self.slots.get_mut(name) else { return };
        let waiting = std::mem::take(&mut slot.waiting);
        slot.users += waiting.len();
        for entry in waiting {
            self.queue.push(entry.place(), entry);
        }
    }

    /// Ends the jobs that have waited for a model that will not come.
    pub(super) fn refuse(&mut self, name: &str, error: impl Fn() -> Option<Error>) {
        let Some(slot) = self.slots.get_mut(name) else { return };
        for mut entry in std::mem::take(&mut slot.waiting) {
            let error = error().unwrap_or_else(|| Error::Internal("a model was refused without a reason".into()));
            entry.job.end(None, Ending::Failed(error));
            Counters::add(&self.ties.counters.failed);
        }
    }

    fn set_state(&mut self, name: &str, state: State<M>) {
        if let Some(slot) = self.slots.get_mut(name) {
            slot.state = state;
            self.changed = true;
        }
    }

    pub(super) fn let_go(&mut self, name: &str) -> Result<()> {
        let slot = self.slots.get(name).ok_or_else(|| Error::not_found("model", name))?;
        if !slot.is_idle() {
            return Err(Error::Busy(format!("requests use the model {name}; cancel them, or try again later")));
        }
        if slot.is_loaded() {
            self.unload(name);
        }
        Ok(())
    }

    fn unload(&mut self, name: &str) {
        let Some(slot) = self.slots.get_mut(name) else { return };
        tracing::info!(model = name, "model unloaded");
        // What waits for it wants it back; that is in `wanted` already.
        let next = if slot.waiting.is_empty() { State::Unloaded } else { State::Wanted };
        let old = std::mem::replace(&mut slot.state, next);
        slot.leaving = false;
        slot.renew();
        Counters::add(&self.ties.counters.unloads);
        self.changed = true;
        // Giving back gigabytes takes longer than a step may.
        let _ = std::thread::Builder::new().name("unload".into()).spawn(move || drop(old));
    }

    /// Lets every model go whose files somebody waits to change, with the jobs that use it.
    pub(super) fn inspect(&mut self) {
        let broken = |slot: &Slot<M>| matches!(&slot.state, State::Loaded { guard, .. } if guard.is_broken());
        let names: Vec<String> =
            self.slots.iter().filter(|(_, slot)| broken(slot)).map(|(name, _)| name.clone()).collect();
        for name in names {
            tracing::warn!(model = name, "its files are being changed; it is unloaded");
            let mut jobs = Vec::new();
            self.queue.sweep(|entry| *entry.model != *name, |entry| jobs.push(entry));
            jobs.extend(self.full.extract_if(.., |(_, entry)| *entry.model == *name).map(|(_, entry)| entry));
            for entry in jobs {
                self.end(entry, Ending::Failed(Error::model_failed(&name, CHANGED)));
            }
            self.refuse(&name, || Some(Error::model_failed(&name, CHANGED)));
            self.set_state(&name, State::Failed { reason: CHANGED.into(), at: Instant::now() });
            self.wanted.retain(|wanted| *wanted != name);
            Counters::add(&self.ties.counters.unloads);
        }
    }

    pub(super) fn unload_idle(&mut self) {
        let Some(idle) = self.options.idle else { return };
        let late = |slot: &Slot<M>| slot.is_loaded() && slot.is_idle() && !slot.pinned;
        let due = self.slots.iter().filter(|(_, slot)| late(slot) && slot.last_used.elapsed() >= idle);
        let due: Vec<String> = due.map(|(name, _)| name.clone()).collect();
        for name in due {
            self.unload(&name);
        }
    }

    /// Unloads models that nobody uses until the budget holds, or none is left.
    pub(super) fn shrink(&mut self) {
        let names: Vec<String> = self.slots.keys().cloned().collect();
        let tenants = self.tenants(|slot| slot.pinned || !slot.is_idle());
        let out = make_room(&tenants, 0, self.options.budget)
            .unwrap_or_else(|_| tenants.iter().filter(|tenant| !tenant.pinned).map(|tenant| tenant.index).collect());
        for index in out {
            self.unload(&names[index]);
        }
    }

    pub(super) fn catalog(&mut self, folders: Vec<Folder>) {
        self.order = folders.iter().map(|folder| folder.name.clone()).collect();
        for folder in folders {
            match self.slots.get_mut(&folder.name) {
                // What is in memory or on its way stays what it was until it is loaded again.
                Some(slot) if slot.is_loaded() || !slot.is_idle() => {
                    slot.vanished = false;
                    slot.newer = Some(folder);
                }
                _ => {
                    let name = folder.name.clone();
                    self.slots.insert(name, Slot::new(folder));
                }
            }
        }
        let order = &self.order;
        self.slots.retain(|name, slot| {
            slot.vanished = !order.contains(name);
            !slot.vanished || slot.is_loaded() || !slot.is_idle()
        });
        for (name, slot) in &mut self.slots {
            slot.pinned = self.options.pinned.contains(name);
        }
        self.changed = true;
    }
}
