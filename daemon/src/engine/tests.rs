//! The engine's promises, with jobs that do as they are told.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use eddy_ipc::{Error, ModelState};

use super::*;

/// How long anything here may take before the test gives up.
const PATIENCE: Duration = Duration::from_secs(10);

/// A model that notes the steps made on it.
struct Fake {
    steps: Arc<Mutex<Vec<&'static str>>>,
    brake: Arc<FakeBrake>,
}

#[derive(Default)]
struct FakeBrake(AtomicBool);

impl Brake for FakeBrake {
    fn set(&self) {
        self.0.store(true, Ordering::SeqCst);
    }
    fn clear(&self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

/// Loads at once, or when it is told to.
#[derive(Default)]
struct FakeLoader {
    steps: Arc<Mutex<Vec<&'static str>>>,
    loads: Mutex<BTreeMap<String, usize>>,
    slow: Mutex<BTreeMap<String, Receiver<()>>>,
    /// Somebody waits to change the files of every model.
    broken: Arc<AtomicBool>,
}

struct FakeGuard(Arc<AtomicBool>);

impl Guard for FakeGuard {
    fn is_broken(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

impl Loader<Fake> for FakeLoader {
    fn load(&self, folder: &Folder) -> Result<Loaded<Fake>, String> {
        let slow = self.slow.lock().expect("free").remove(&folder.name);
        if let Some(slow) = slow {
            let _ = slow.recv_timeout(PATIENCE);
        }
        *self.loads.lock().expect("free").entry(folder.name.clone()).or_default() += 1;
        if folder.name.starts_with("bad") {
            return Err("its weights are damaged; download the folder again".into());
        }
        let brake = Arc::new(FakeBrake::default());
        let model = Fake { steps: Arc::clone(&self.steps), brake: Arc::clone(&brake) };
        let guard = Box::new(FakeGuard(Arc::clone(&self.broken)));
        Ok(Loaded { model, brake, remarks: vec!["repaired".into()], guard })
    }
}

/// A job of so many steps.
struct FakeJob {
    name: &'static str,
    left: usize,
    kind: Kind,
    ended: Sender<(&'static str, String)>,
}

enum Kind {
    Plain,
    /// Waits in each step until it is let go on.
    Gated(Receiver<()>),
    /// Never ends a step unless stopped.
    Runaway,
    /// Ends no step before it was stopped once, and can be.
    GivesWay(Arc<AtomicUsize>),
    Panics,
    /// Has no room for its output until this is set.
    Full(Arc<AtomicBool>, Arc<AtomicUsize>),
}

impl Job<Fake> for FakeJob {
    fn step(&mut self, model: &mut Fake) -> Step {
        match &self.kind {
            Kind::Plain => {}
            Kind::Gated(gate) => drop(gate.recv_timeout(PATIENCE)),
            Kind::Runaway => {
                let begun = Instant::now();
                while !model.brake.0.load(Ordering::SeqCst) && begun.elapsed() < PATIENCE {
                    std::thread::sleep(Duration::from_millis(1));
                }
                return Step::Failed(Error::Internal("stopped".into()));
            }
            Kind::GivesWay(tries) if tries.fetch_add(1, Ordering::SeqCst) == 0 => {
                let begun = Instant::now();
                while !model.brake.0.load(Ordering::SeqCst) && begun.elapsed() < PATIENCE {
                    std::thread::sleep(Duration::from_millis(1));
                }
                return Step::Failed(Error::Internal("stopped".into()));
            }
            Kind::GivesWay(_) => {}
            Kind::Panics => panic!("as told"),
            Kind::Full(room, tries) if !room.load(Ordering::SeqCst) => {
                tries.fetch_add(1, Ordering::SeqCst);
                return Step::Full;
            }
            Kind::Full(..) => {}
        }
        model.steps.lock().expect("free").push(self.name);
        self.left = self.left.saturating_sub(1);
        if self.left == 0 { Step::Done } else { Step::More }
    }

    fn can_repeat(&self) -> bool {
        matches!(self.kind, Kind::GivesWay(_))
    }

    fn end(&mut self, _: Option<&mut Fake>, ending: Ending) {
        let how = match ending {
            Ending::Done => "done".to_owned(),
            Ending::Cancelled => "cancelled".to_owned(),
            Ending::Failed(error) => format!("{}: {error}", error.dbus_name().rsplit('.').next().unwrap_or_default()),
        };
        let _ = self.ended.send((self.name, how));
    }
}

/// Which job told what.
type Told = (&'static str, String);

struct Bench {
    engine: Engine<Fake>,
    loader: Arc<FakeLoader>,
    ended: (Sender<Told>, Receiver<Told>),
    beats: Arc<AtomicUsize>,
}

fn folder(name: &str, bytes: u64) -> Folder {
    Folder {
        name: name.into(),
        path: format!("/models/{name}").into(),
        task: Some(Task::Speech),
        family: "fake".into(),
        precision: "fp32".into(),
        license: String::new(),
        bytes,
        remote: None,
        problem: None,
    }
}

impl Bench {
    fn new(folders: Vec<Folder>, options: EngineOptions) -> Self {
        let loader = Arc::new(FakeLoader::default());
        let beats = Arc::new(AtomicUsize::new(0));
        let theirs = Arc::clone(&beats);
        let beat = move || {
            theirs.fetch_add(1, Ordering::SeqCst);
        };
        let engine = Engine::start(Arc::clone(&loader) as Arc<dyn Loader<Fake>>, folders, options, beat);
        Self { engine: engine.expect("threads"), loader, ended: channel(), beats }
    }

    fn one(options: EngineOptions) -> Self {
        Self::new(vec![folder("a", 10)], options)
    }

    fn submit(
        &self,
        caller: &Arc<Caller>,
        name: &'static str,
        urgency: Urgency,
        left: usize,
        kind: Kind,
    ) -> Arc<Ticket> {
        self.submit_to("a", caller, name, urgency, left, kind).expect("admitted")
    }

    fn submit_to(
        &self,
        model: &str,
        caller: &Arc<Caller>,
        name: &'static str,
        urgency: Urgency,
        left: usize,
        kind: Kind,
    ) -> eddy_ipc::Result<Arc<Ticket>> {
        let ticket = caller.ticket(1_000)?;
        let job = FakeJob { name, left, kind, ended: self.ended.0.clone() };
        self.engine.submit(Box::new(job), model.into(), urgency, Arc::clone(&ticket))?;
        Ok(ticket)
    }

    fn next_end(&self) -> (&'static str, String) {
        self.ended.1.recv_timeout(PATIENCE).expect("a job ends")
    }

    fn steps(&self) -> Vec<&'static str> {
        self.loader.steps.lock().expect("free").clone()
    }

    fn state(&self, name: &str) -> ModelState {
        let statuses = self.engine.statuses();
        let all = statuses.borrow();
        all.iter().find(|status| status.folder.name == name).map(|status| status.state).expect("listed")
    }

    fn wait_for(&self, what: &str, mut seen: impl FnMut(&Self) -> bool) {
        let begun = Instant::now();
        while !seen(self) {
            assert!(begun.elapsed() < PATIENCE, "never: {what}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// A job that holds the thread until the sender is dropped or sends; it is running when this returns.
    fn hold(&self, caller: &Arc<Caller>, urgency: Urgency) -> (Sender<()>, Arc<Ticket>) {
        let (open, gate) = channel();
        let ticket = self.submit(caller, "hold", urgency, 1, Kind::Gated(gate));
        self.wait_for("the model is loaded", |bench| bench.state("a") == ModelState::Loaded);
        std::thread::sleep(Duration::from_millis(20));
        (open, ticket)
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.engine.stop();
    }
}

#[test]
fn voice_comes_before_interactive_before_batch() {
    let bench = Bench::one(EngineOptions::default());
    let caller = Caller::new();
    let (open, _ticket) = bench.hold(&caller, Urgency::Batch);
    let mut tickets = vec![bench.submit(&caller, "batch", Urgency::Batch, 2, Kind::Plain)];
    tickets.push(bench.submit(&caller, "interactive", Urgency::Interactive, 2, Kind::Plain));
    tickets.push(bench.submit(&caller, "voice", Urgency::Voice, 2, Kind::Plain));
    drop(open);
    for _ in 0..4 {
        bench.next_end();
    }
    assert_eq!(bench.steps(), ["hold", "voice", "voice", "interactive", "interactive", "batch", "batch"]);
}

#[test]
fn a_more_urgent_job_goes_between_two_steps_of_another() {
    let bench = Bench::one(EngineOptions::default());
    let (caller, voice) = (Caller::new(), Caller::new());
    let (step, gate) = channel();
    let _long = bench.submit(&caller, "long", Urgency::Batch, 3, Kind::Gated(gate));
    step.send(()).expect("running");
    bench.wait_for("one step", |bench| bench.steps().len() == 1);
    let _urgent = bench.submit(&voice, "urgent", Urgency::Voice, 1, Kind::Plain);
    step.send(()).expect("running");
    bench.wait_for("the urgent one", |bench| bench.steps().len() == 3);
    step.send(()).expect("running");
    bench.next_end();
    bench.next_end();
    // The step that was running was finished, and no other came before the urgent one.
    assert_eq!(bench.steps(), ["long", "long", "urgent", "long"]);
}

#[test]
fn callers_of_one_class_take_turns() {
    let bench = Bench::one(EngineOptions::default());
    let (greedy, modest, holder) = (Caller::new(), Caller::new(), Caller::new());
    let (open, _ticket) = bench.hold(&holder, Urgency::Interactive);
    let mut tickets: Vec<_> =
        (0..3).map(|_| bench.submit(&greedy, "greedy", Urgency::Interactive, 2, Kind::Plain)).collect();
    tickets.push(bench.submit(&modest, "modest", Urgency::Interactive, 3, Kind::Plain));
    drop(open);
    for _ in 0..5 {
        bench.next_end();
    }
    let order = bench.steps();
    assert_eq!(order[1..7], ["greedy", "modest", "greedy", "modest", "greedy", "modest"], "{order:?}");
}

#[test]
fn full_queues_are_errors_and_never_waits() {
    let bench = Bench::one(EngineOptions { queue: 3, ..EngineOptions::default() });
    let caller = Caller::new();
    let (open, _ticket) = bench.hold(&caller, Urgency::Interactive);
    let _two: Vec<_> = (0..2).map(|_| bench.submit(&caller, "x", Urgency::Interactive, 1, Kind::Plain)).collect();
    let begun = Instant::now();
    let refused = bench.submit_to("a", &caller, "x", Urgency::Voice, 1, Kind::Plain);
    assert!(matches!(refused, Err(Error::Busy(_))), "{refused:?}");
    assert!(begun.elapsed() < Duration::from_secs(1));
    drop(open);
    for _ in 0..3 {
        bench.next_end();
    }
    bench.wait_for("room again", |bench| bench.engine.waiting() == 0);
    bench.submit(&caller, "x", Urgency::Interactive, 1, Kind::Plain);

    let one = caller.ticket(caller.held() + 1).expect("one more");
    assert!(matches!(caller.ticket(caller.held()), Err(Error::LimitReached(_))));
    drop(one);
    caller.ticket(caller.held() + 1).expect("given back");
}

#[test]
fn what_is_cancelled_or_left_ends_at_the_next_step() {
    let bench = Bench::one(EngineOptions::default());
    let (stays, leaves, holder) = (Caller::new(), Caller::new(), Caller::new());
    let (step, gate) = channel();
    let ticket = bench.submit(&holder, "long", Urgency::Interactive, 1_000, Kind::Gated(gate));
    step.send(()).expect("running");
    bench.wait_for("one step", |bench| bench.steps().len() == 1);
    let cancelled = bench.submit(&stays, "cancelled", Urgency::Interactive, 5, Kind::Plain);
    let _left = bench.submit(&leaves, "left", Urgency::Batch, 5, Kind::Plain);
    cancelled.cancel();
    leaves.leave();
    ticket.cancel();
    bench.engine.nudge();
    step.send(()).expect("running");
    let mut ends: Vec<_> = (0..3).map(|_| bench.next_end()).collect();
    ends.sort();
    assert_eq!(
        ends,
        [("cancelled", "cancelled".into()), ("left", "cancelled".into()), ("long", "cancelled".to_owned())]
    );
    let steps = bench.steps();
    assert!(steps.len() <= 2 && steps.iter().all(|name| *name == "long"), "at most the running step: {steps:?}");
}

#[test]
fn a_step_that_does_not_end_is_stopped_and_the_rest_goes_on() {
    let bench = Bench::one(EngineOptions { step_limit: Duration::from_millis(100), ..EngineOptions::default() });
    let caller = Caller::new();
    let begun = Instant::now();
    let _runaway = bench.submit(&caller, "runaway", Urgency::Voice, 1, Kind::Runaway);
    let (_, how) = bench.next_end();
    assert!(how.starts_with("TimedOut"), "{how}");
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    let _next = bench.submit(&caller, "next", Urgency::Batch, 2, Kind::Plain);
    assert_eq!(bench.next_end(), ("next", "done".into()));
}

#[test]
fn a_panic_ends_one_job() {
    let bench = Bench::one(EngineOptions::default());
    let caller = Caller::new();
    let _bad = bench.submit(&caller, "bad", Urgency::Voice, 1, Kind::Panics);
    assert!(bench.next_end().1.starts_with("Internal"));
    let _next = bench.submit(&caller, "next", Urgency::Batch, 1, Kind::Plain);
    assert_eq!(bench.next_end(), ("next", "done".into()));
}

#[test]
fn a_full_output_steps_aside() {
    let bench = Bench::one(EngineOptions::default());
    let caller = Caller::new();
    let (room, tries) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let kind = Kind::Full(Arc::clone(&room), Arc::clone(&tries));
    let _full = bench.submit(&caller, "full", Urgency::Voice, 1, kind);
    let _other = bench.submit(&caller, "other", Urgency::Batch, 100, Kind::Plain);
    assert_eq!(bench.next_end(), ("other", "done".into()));
    std::thread::sleep(Duration::from_millis(100));
    assert!(tries.load(Ordering::SeqCst) < 20, "it is tried now and then, not all the time");
    room.store(true, Ordering::SeqCst);
    assert_eq!(bench.next_end(), ("full", "done".into()));
}

#[test]
fn loading_a_model_delays_no_step_of_another() {
    let bench = Bench::new(vec![folder("a", 10), folder("slow", 10)], EngineOptions::default());
    let (open, gate) = channel();
    bench.loader.slow.lock().expect("free").insert("slow".into(), gate);
    let caller = Caller::new();
    let _waits = bench.submit_to("slow", &caller, "waits", Urgency::Voice, 1, Kind::Plain).expect("admitted");
    bench.wait_for("loading", |bench| bench.state("slow") == ModelState::Loading);
    // The model `a` is wanted while the other is on its way: one is loaded at a time.
    let given_up = bench.submit_to("slow", &caller, "given up", Urgency::Voice, 1, Kind::Plain).expect("admitted");
    given_up.cancel();
    bench.engine.nudge();
    assert_eq!(bench.next_end(), ("given up", "cancelled".into()), "not after the load");
    drop(open);
    assert_eq!(bench.next_end(), ("waits", "done".into()));

    let (open, gate) = channel();
    bench.loader.slow.lock().expect("free").insert("a".into(), gate);
    let _waits = bench.submit_to("a", &caller, "waits", Urgency::Voice, 1, Kind::Plain).expect("admitted");
    for _ in 0..50 {
        let _quick = bench.submit_to("slow", &caller, "quick", Urgency::Batch, 1, Kind::Plain).expect("admitted");
        assert_eq!(bench.next_end(), ("quick", "done".into()));
    }
    assert_eq!(bench.state("a"), ModelState::Loading);
    drop(open);
    assert_eq!(bench.next_end(), ("waits", "done".into()));
}

#[test]
fn models_stay_within_the_budget_and_the_least_used_goes() {
    let folders = vec![folder("a", 40), folder("b", 40), folder("c", 40), folder("huge", 101)];
    let options = EngineOptions { budget: 100, ..EngineOptions::default() };
    let bench = Bench::new(folders, options.clone());
    let caller = Caller::new();
    let run = |model: &str| {
        let ticket = bench.submit_to(model, &caller, "x", Urgency::Interactive, 1, Kind::Plain).expect("admitted");
        let end = bench.next_end().1;
        drop(ticket);
        end
    };
    assert_eq!([run("a"), run("b"), run("a"), run("c")], ["done"; 4]);
    assert_eq!(
        ["a", "b", "c"].map(|name| bench.state(name)),
        [ModelState::Loaded, ModelState::Unloaded, ModelState::Loaded]
    );
    let refused = run("huge");
    assert!(refused.starts_with("TooLarge") && refused.contains("memory_budget"), "{refused}");
    assert_eq!(bench.state("a"), ModelState::Loaded, "nothing went for one that cannot fit");

    // Pinned models stay, whatever is wanted.
    bench.engine.configure(EngineOptions { pinned: vec!["a".into(), "c".into()], ..options.clone() }).expect("sent");
    let refused = run("b");
    assert!(refused.starts_with("TooLarge") && refused.contains("pinned"), "{refused}");

    // A smaller budget takes effect at once.
    bench.engine.configure(EngineOptions { budget: 50, ..options }).expect("sent");
    bench.wait_for("one went", |bench| bench.state("a") == ModelState::Unloaded);
    assert_eq!(bench.state("c"), ModelState::Loaded);
}

#[test]
fn models_that_need_each_others_room_take_turns() {
    let folders = vec![folder("a", 60), folder("b", 60)];
    let bench = Bench::new(folders, EngineOptions { budget: 100, ..EngineOptions::default() });
    let (one, two) = (Caller::new(), Caller::new());
    let (step, gate) = channel();
    let _first = bench.submit_to("a", &one, "a1", Urgency::Interactive, 2, Kind::Gated(gate)).expect("admitted");
    bench.wait_for("a is there", |bench| bench.state("a") == ModelState::Loaded);
    let _second = bench.submit_to("b", &two, "b1", Urgency::Interactive, 1, Kind::Plain).expect("admitted");
    step.send(()).expect("running");
    bench.wait_for("one step", |bench| bench.steps().len() == 1);
    // Comes later than b1, and does not keep it from its turn.
    let _third = bench.submit_to("a", &one, "a2", Urgency::Voice, 1, Kind::Plain).expect("admitted");
    step.send(()).expect("running");
    let ends: Vec<_> = (0..3).map(|_| bench.next_end().0).collect();
    assert_eq!(ends, ["a1", "b1", "a2"]);
}

#[test]
fn a_model_that_fails_says_why_and_the_rest_serves() {
    let bench = Bench::new(vec![folder("bad", 10), folder("a", 10)], EngineOptions::default());
    let caller = Caller::new();
    for _ in 0..2 {
        let _ticket = bench.submit_to("bad", &caller, "x", Urgency::Voice, 1, Kind::Plain).expect("admitted");
        let (_, how) = bench.next_end();
        assert!(how.starts_with("ModelFailed") && how.contains("weights are damaged"), "{how}");
    }
    // The job hears of it before the listing does.
    bench.wait_for("failed", |bench| bench.state("bad") == ModelState::Failed);
    assert_eq!(bench.loader.loads.lock().expect("free")["bad"], 1, "not tried again at once");
    let _ticket = bench.submit(&caller, "y", Urgency::Batch, 1, Kind::Plain);
    assert_eq!(bench.next_end(), ("y", "done".into()));

    // The first one that can, and not the first one.
    let choice = Choice { task: Task::Speech, named: None, preferred: "" };
    assert_eq!(&*bench.engine.choose(choice).expect("one"), "a");
    assert_eq!(&*bench.engine.choose(Choice { named: Some("bad"), ..choice }).expect("it is there"), "bad");
    for (choice, name) in [
        (Choice { named: Some("c"), ..choice }, "NotFound"),
        (Choice { task: Task::Text, named: Some("a"), ..choice }, "Unsupported"),
        (Choice { task: Task::Vision, ..choice }, "ModelMissing"),
    ] {
        let error = bench.engine.choose(choice).expect_err("refused");
        assert!(error.dbus_name().ends_with(name), "{error:?}");
    }

    // Asked for by name it is tried at once, and a new listing forgets the failure.
    bench.engine.load("bad", |_| {}).expect("sent");
    bench.wait_for("tried", |bench| bench.loader.loads.lock().expect("free")["bad"] == 2);
    let (answer, answered) = channel();
    let folders = vec![folder("a", 10), folder("bad", 20)];
    bench.engine.catalog(folders, move |result| drop(answer.send(result))).expect("sent");
    answered.recv_timeout(PATIENCE).expect("in time").expect("taken");
    assert_eq!(bench.state("bad"), ModelState::Unloaded, "forgotten");
}

#[test]
fn a_long_step_gives_way_to_the_voice_and_is_done_again() {
    let bench = Bench::one(EngineOptions::default());
    let (client, person) = (Caller::new(), Caller::new());
    let tries = Arc::new(AtomicUsize::new(0));
    let _batch = bench.submit(&client, "batch", Urgency::Batch, 1, Kind::GivesWay(Arc::clone(&tries)));
    bench.wait_for("it runs", |_| tries.load(Ordering::SeqCst) == 1);
    // Another caller is no reason to stop it.
    let _chat = bench.submit(&client, "chat", Urgency::Interactive, 1, Kind::Plain);
    assert!(bench.ended.1.recv_timeout(Duration::from_millis(100)).is_err());
    let _voice = bench.submit(&person, "voice", Urgency::Voice, 2, Kind::Plain);
    for name in ["voice", "chat", "batch"] {
        assert_eq!(bench.next_end(), (name, "done".to_owned()));
    }
    assert_eq!(bench.steps(), ["voice", "voice", "chat", "batch"]);
    assert_eq!(tries.load(Ordering::SeqCst), 2);
    assert_eq!(bench.engine.counters().stopped_steps.load(Ordering::SeqCst), 0, "nothing was wrong with it");
}

#[test]
fn idle_models_go_and_used_ones_cannot_be_sent_away() {
    let idle = Some(Duration::from_millis(150));
    let bench = Bench::one(EngineOptions { idle, ..EngineOptions::default() });
    let caller = Caller::new();
    let (open, ticket) = bench.hold(&caller, Urgency::Interactive);
    let (answer, answered) = channel();
    bench.engine.unload("a", move |result| drop(answer.send(result))).expect("sent");
    drop(open);
    let refused = answered.recv_timeout(PATIENCE).expect("answered");
    // The answer comes after the step that was running, when the job may have ended.
    assert!(matches!(refused, Err(Error::Busy(_)) | Ok(())), "{refused:?}");
    drop(ticket);
    bench.wait_for("it went", |bench| bench.state("a") == ModelState::Unloaded);
    let _again = bench.submit(&caller, "again", Urgency::Interactive, 1, Kind::Plain);
    bench.next_end();
    bench.next_end();
    assert_eq!(bench.loader.loads.lock().expect("free")["a"], 2);
}

#[test]
fn the_heart_beats_while_there_is_nothing_to_do_and_while_there_is() {
    let bench = Bench::one(EngineOptions { beat: Duration::from_millis(20), ..EngineOptions::default() });
    std::thread::sleep(Duration::from_millis(300));
    let idle = bench.beats.load(Ordering::SeqCst);
    assert!((5..=60).contains(&idle), "{idle}");
    // A step that hangs is heard by the heart standing still.
    let caller = Caller::new();
    let (open, _ticket) = bench.hold(&caller, Urgency::Voice);
    std::thread::sleep(Duration::from_millis(50));
    let before = bench.beats.load(Ordering::SeqCst);
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(bench.beats.load(Ordering::SeqCst), before);
    drop(open);
}

#[test]
fn stopping_ends_every_job() {
    let bench = Bench::one(EngineOptions::default());
    let caller = Caller::new();
    let _runs = bench.submit(&caller, "runs", Urgency::Voice, 1, Kind::Runaway);
    let _waits = bench.submit(&caller, "waits", Urgency::Batch, 1, Kind::Plain);
    bench.wait_for("it runs", |bench| bench.state("a") == ModelState::Loaded);
    std::thread::sleep(Duration::from_millis(50));
    let begun = Instant::now();
    bench.engine.stop();
    assert!(begun.elapsed() < Duration::from_secs(2));
    bench.next_end();
    assert_eq!(bench.next_end(), ("waits", "cancelled".into()));
    assert!(bench.submit_to("a", &caller, "late", Urgency::Voice, 1, Kind::Plain).is_err());
}

#[test]
fn a_model_whose_files_are_changed_goes_with_its_jobs() {
    let bench = Bench::one(EngineOptions::default());
    let caller = Caller::new();
    let (go_on, gate) = channel();
    bench.submit(&caller, "long", Urgency::Interactive, 1_000, Kind::Gated(gate));
    bench.submit(&caller, "next", Urgency::Interactive, 1, Kind::Plain);
    let _ = go_on.send(());
    bench.loader.broken.store(true, Ordering::SeqCst);
    bench.engine.inspect().expect("runs");
    let _ = go_on.send(());
    for _ in 0..2 {
        let (name, how) = bench.next_end();
        assert!(how.starts_with("ModelFailed: ") && how.contains("changed"), "{name}: {how}");
    }
    bench.wait_for("it is said", |bench| bench.state("a") == ModelState::Failed);
    // Whole again, and asked for by name.
    bench.loader.broken.store(false, Ordering::SeqCst);
    let (answer, answered) = channel();
    bench.engine.load("a", move |result| drop(answer.send(result))).expect("runs");
    answered.recv_timeout(PATIENCE).expect("told").expect("loads");
    bench.submit(&caller, "later", Urgency::Interactive, 1, Kind::Plain);
    assert_eq!(bench.next_end(), ("later", "done".to_owned()));
}
