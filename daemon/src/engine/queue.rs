//! The order of work: classes by urgency, callers in turn inside a class, a caller's jobs in their order. A class that is
//! never the most urgent one still gets a step now and then, unless a person at the microphone waits.

use std::collections::VecDeque;

use super::job::Urgency;

/// Steps of more urgent work that a class lets pass before it gets one: callers that chat without a pause must not keep a
/// batch from ever ending, and lose a fifteenth of their speed to it.
const PASSED_AT_MOST: u32 = 15;

/// Jobs that can run now.
#[derive(Debug)]
pub(super) struct Queue<T> {
    classes: [VecDeque<Lane<T>>; Urgency::ALL.len()],
    /// Steps that each class let pass since its last one.
    passed: [u32; Urgency::ALL.len()],
}

/// One caller's jobs of one class. A lane is never empty.
#[derive(Debug)]
struct Lane<T> {
    caller: u64,
    jobs: VecDeque<T>,
}

/// Where a job came from, to give it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub urgency: Urgency,
    pub caller: u64,
}

impl<T> Queue<T> {
    pub fn new() -> Self {
        Self { classes: Urgency::ALL.map(|_| VecDeque::new()), passed: [0; Urgency::ALL.len()] }
    }

    pub fn is_empty(&self) -> bool {
        self.classes.iter().all(VecDeque::is_empty)
    }

    /// Adds a job behind its caller's others.
    pub fn push(&mut self, place: Place, job: T) {
        self.lane(place).push_back(job);
    }

    /// Puts a job back that has more to do: before its caller's others, behind the other callers.
    pub fn give_back(&mut self, place: Place, job: T) {
        self.lane(place).push_front(job);
    }

    /// Takes the next job out: the most urgent one, or one that has let many pass.
    pub fn next(&mut self) -> Option<T> {
        let chosen = self.choose()?;
        self.passed[chosen] = 0;
        for (class, passed) in self.classes.iter().zip(&mut self.passed).skip(chosen + 1) {
            *passed = if class.is_empty() { 0 } else { passed.saturating_add(1) };
        }
        let class = &mut self.classes[chosen];
        let mut lane = class.pop_front()?;
        let job = lane.jobs.pop_front();
        if !lane.jobs.is_empty() {
            class.push_back(lane);
        }
        job
    }

    fn choose(&self) -> Option<usize> {
        let most_urgent = self.classes.iter().position(|class| !class.is_empty())?;
        if most_urgent == Urgency::Voice as usize {
            return Some(most_urgent);
        }
        let waiting = |&class: &usize| !self.classes[class].is_empty() && self.passed[class] >= PASSED_AT_MOST;
        Some((most_urgent + 1..self.classes.len()).find(waiting).unwrap_or(most_urgent))
    }

    /// Takes every job out for which `wanted` is false.
    pub fn sweep(&mut self, mut wanted: impl FnMut(&T) -> bool, mut out: impl FnMut(T)) {
        for class in &mut self.classes {
            for lane in class.iter_mut() {
                for job in std::mem::take(&mut lane.jobs) {
                    if wanted(&job) {
                        lane.jobs.push_back(job);
                    } else {
                        out(job);
                    }
                }
            }
            class.retain(|lane| !lane.jobs.is_empty());
        }
    }

    fn lane(&mut self, place: Place) -> &mut VecDeque<T> {
        let class = &mut self.classes[place.urgency as usize];
        let at = match class.iter().position(|lane| lane.caller == place.caller) {
            Some(at) => at,
            None => {
                class.push_back(Lane { caller: place.caller, jobs: VecDeque::new() });
                class.len() - 1
            }
        };
        &mut class[at].jobs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Urgency::{Batch, Interactive, Voice};

    fn at(urgency: Urgency, caller: u64) -> Place {
        Place { urgency, caller }
    }

    #[test]
    fn the_most_urgent_class_goes_first() {
        let mut queue = Queue::new();
        queue.push(at(Batch, 1), "batch");
        queue.push(at(Interactive, 1), "interactive");
        queue.push(at(Voice, 1), "voice");
        assert_eq!([queue.next(), queue.next(), queue.next()], [Some("voice"), Some("interactive"), Some("batch")]);
        assert!(queue.next().is_none() && queue.is_empty());
    }

    #[test]
    fn a_batch_goes_on_beside_callers_that_never_pause_but_not_beside_a_voice() {
        let (mut queue, mut order) = (Queue::new(), Vec::new());
        queue.push(at(Interactive, 1), Interactive);
        queue.push(at(Batch, 2), Batch);
        for _ in 0..64 {
            let urgency = queue.next().expect("two jobs without an end");
            order.push(urgency);
            queue.give_back(at(urgency, if urgency == Batch { 2 } else { 1 }), urgency);
        }
        let batch: Vec<usize> = (0..64).filter(|&step| order[step] == Batch).collect();
        assert_eq!(batch, [15, 31, 47, 63]);
        queue.push(at(Voice, 3), Voice);
        for _ in 0..64 {
            assert_eq!(queue.next(), Some(Voice));
            queue.give_back(at(Voice, 3), Voice);
        }
    }

    #[test]
    fn callers_take_turns_and_keep_their_order() {
        let mut queue = Queue::new();
        for job in ["a1", "a2", "a3"] {
            queue.push(at(Interactive, 1), job);
        }
        queue.push(at(Interactive, 2), "b1");
        let mut order = Vec::new();
        // Every job takes two steps.
        let mut left = std::collections::HashMap::new();
        while let Some(job) = queue.next() {
            order.push(job);
            let left = left.entry(job).or_insert(2);
            *left -= 1;
            if *left > 0 {
                queue.give_back(at(Interactive, if job == "b1" { 2 } else { 1 }), job);
            }
        }
        assert_eq!(order, ["a1", "b1", "a1", "b1", "a2", "a2", "a3", "a3"]);
    }

    #[test]
    fn sweeping_takes_out_what_nobody_wants() {
        let mut queue = Queue::new();
        for number in 0..10 {
            queue.push(at(Batch, number % 3), number);
        }
        let mut swept = Vec::new();
        queue.sweep(|number| number % 2 == 0, |number| swept.push(number));
        swept.sort_unstable();
        assert_eq!(swept, [1, 3, 5, 7, 9]);
        let mut left: Vec<u64> = std::iter::from_fn(|| queue.next()).collect();
        left.sort_unstable();
        assert_eq!(left, [0, 2, 4, 6, 8]);
    }
}
