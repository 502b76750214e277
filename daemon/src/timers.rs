//! What the live voice does when its model calls for it: it sets timers, and rings when they are over.
//!
//! The calls come from a model, which may have misheard: numbers and lengths are bounded, and a call that cannot be done is
//! answered with the reason, for the model to say.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use eddy_models::chat::tools::ToolCall;
use serde_json::{Value, json};

use crate::jobs::{RATE, SoundLine};

/// The tool's name and its only argument.
const TOOL: &str = "set_timer";
const MINUTES: &str = "minutes";
/// A day.
const LONGEST: f64 = 24.0 * 60.0;
/// Timers that may run at a time.
const MOST: usize = 32;

/// Frequencies of the bell's stroke, Hz, and how loud each is.
const TONES: [(f32, f32); 3] = [(880.0, 0.16), (1318.5, 0.1), (2637.0, 0.04)];
/// Seconds from stroke to stroke, and until a stroke has faded to a third.
const STROKE: f32 = 0.6;
const FADE: f32 = 0.18;
const STROKES: usize = 4;

/// Timers that run, by the numbers under which they were set.
#[derive(Debug, Default)]
pub struct Timers(Mutex<Running>);

#[derive(Debug, Default)]
struct Running {
    timers: Vec<(u64, Instant)>,
    set: u64,
}

impl Timers {
    /// Does what a model calls for; gives what it is to be told, and the number of the timer that was set.
    pub fn call(&self, call: &ToolCall, now: Instant) -> (String, Option<u64>) {
        let (told, number) = match self.set(call, now) {
            Ok((minutes, number)) => (json!({ MINUTES: minutes }), Some(number)),
            Err(reason) => (json!({ "error": reason }), None),
        };
        tracing::info!(tool = %call.name, %told, "the model called a tool");
        (told.to_string(), number)
    }

    /// Takes timers back that nobody has heard of.
    pub fn take_back(&self, numbers: &[u64]) {
        self.running().timers.retain(|(number, _)| !numbers.contains(number));
    }

    fn set(&self, call: &ToolCall, now: Instant) -> Result<(Value, u64), String> {
        if call.name != TOOL {
            return Err(format!("there is no tool {:?}", call.name));
        }
        let asked = call.arguments.get(MINUTES).cloned().unwrap_or_default();
        let minutes = asked.as_f64().unwrap_or(f64::NAN);
        if !(minutes > 0.0 && minutes <= LONGEST) {
            return Err(format!("a timer takes up to {LONGEST} {MINUTES}"));
        }
        let mut running = self.running();
        if running.timers.len() == MOST {
            return Err(format!("{MOST} timers run already"));
        }
        running.set += 1;
        let number = running.set;
        running.timers.push((number, now + Duration::from_secs_f64(60.0 * minutes)));
        Ok((asked, number))
    }

    /// Takes the timers that are over at `now` away; whether there were any.
    pub fn ring(&self, now: Instant) -> bool {
        let mut running = self.running();
        let before = running.timers.len();
        running.timers.retain(|(_, end)| *end > now);
        running.timers.len() < before
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The sound of a timer that is over.
#[must_use]
pub fn bell() -> Arc<SoundLine> {
    let line = SoundLine::new(Duration::ZERO);
    let stroke = (STROKE * RATE as f32) as usize;
    let samples: Vec<f32> = (0..STROKES * stroke)
        .map(|sample| {
            let time = (sample % stroke) as f32 / RATE as f32;
            let tone = |(hertz, gain): (f32, f32)| gain * (std::f32::consts::TAU * hertz * time).sin();
            // A stroke that begins at once would click.
            (-time / FADE).exp() * (time / 0.004).min(1.0) * TONES.into_iter().map(tone).sum::<f32>()
        })
        .collect();
    line.push(&samples);
    line.finish();
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use eddy_models::chat::tools::read_calls;

    fn told(timers: &Timers, call: &str, now: Instant) -> String {
        timers.call(&read_calls(call).expect("a call")[0], now).0
    }

    #[test]
    fn a_timer_rings_once_when_its_minutes_are_over() {
        let (timers, now) = (Timers::default(), Instant::now());
        assert_eq!(told(&timers, "[set_timer(minutes=5)]", now), "{\"minutes\":5}");
        assert!(!timers.ring(now + Duration::from_secs(299)));
        assert!(timers.ring(now + Duration::from_secs(300)));
        assert!(!timers.ring(now + Duration::from_secs(301)));
    }

    #[test]
    fn what_cannot_be_done_is_told_and_sets_nothing() {
        let (timers, now) = (Timers::default(), Instant::now());
        for call in [
            "[open_door(minutes=5)]",
            "[set_timer()]",
            "[set_timer(minutes=-1)]",
            "[set_timer(minutes=1e300)]",
            "[set_timer(minutes=\"five\")]",
        ] {
            assert!(told(&timers, call, now).contains("error"), "{call}");
        }
        for _ in 0..MOST {
            told(&timers, "[set_timer(minutes=1)]", now);
        }
        assert!(told(&timers, "[set_timer(minutes=1)]", now).contains("32 timers"));
        assert_eq!(timers.running().timers.len(), MOST);
    }

    #[test]
    fn what_was_taken_back_does_not_ring() {
        let (timers, now) = (Timers::default(), Instant::now());
        let call = read_calls("[set_timer(minutes=1)]").expect("a call");
        let first = timers.call(&call[0], now).1.expect("set");
        let later = now + Duration::from_secs(61);
        timers.take_back(&[first]);
        assert!(!timers.ring(later));
        timers.call(&call[0], now);
        timers.take_back(&[first]);
        assert!(timers.ring(later), "the number of another");
    }

    #[test]
    fn the_bell_neither_clips_nor_clicks() {
        let mut samples = Vec::new();
        let bell = bell();
        bell.take(usize::MAX, &mut samples);
        assert_eq!(samples.len(), STROKES * (STROKE * RATE as f32) as usize);
        assert!(samples.iter().all(|sample| sample.abs() < 0.5) && samples[0] == 0.0 && bell.is_drained());
    }
}
