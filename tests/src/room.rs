//! A room with a voice in it: a sound server without hardware, a person who is espeak-ng, and the live voice in this
//! process between a virtual microphone and a virtual loudspeaker.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use eddy_audio::wav::read_wav;
use eddy_config::Sources;
use eddy_models::RuntimeOptions;
use eddy_models::folder::Wanted;
use eddyd::engine::{Engine, EngineOptions, catalog};
use eddyd::jobs::{Audience, Model, OnnxLoader, Told, TurnEnd};
use eddyd::voice::{Change, Parts, State, Voice};

use crate::fixtures::{fixture, runtime_folder};

/// The rate of the room.
pub const ROOM: u32 = 48_000;

/// What was told of the turns, in order, and when.
#[derive(Debug, Default)]
pub struct Diary {
    pub text: String,
    pub transcript: String,
    /// Samples of each answer, at the voice's rate.
    pub answers: Vec<Vec<f32>>,
    pub ended: Vec<TurnEnd>,
    pub failed: Vec<String>,
    pub folded: usize,
    /// Seconds from the last word to the decision, and from there to the first sample.
    pub waits: Vec<(Duration, Duration)>,
    /// When each state began.
    pub states: Vec<(Instant, State, String)>,
}

/// Somebody who writes everything down.
#[derive(Default)]
pub struct Witness(Mutex<Diary>);

impl Witness {
    pub fn read<T>(&self, look: impl FnOnce(&Diary) -> T) -> T {
        look(&self.0.lock().unwrap())
    }
}

impl Audience for Witness {
    fn tell(&self, told: Told<'_>) {
        let mut diary = self.0.lock().unwrap();
        match told {
            Told::Transcript(text) => diary.transcript.push_str(text),
            Told::Text(text) => diary.text.push_str(text),
            Told::Sound(samples) => {
                // One answer may be made ahead and taken back; only the last is of interest.
                let ended = diary.ended.len();
                diary.answers.resize_with(ended + 1, Vec::new);
                diary.answers[ended].extend_from_slice(samples);
            }
            Told::Folded(turns) => diary.folded += turns,
            Told::Answering { wait, think } => diary.waits.push((wait, think)),
            Told::Written => {}
            Told::Ended(end) => diary.ended.push(end.clone()),
            Told::Failed(error) => diary.failed.push(error.to_string()),
        }
    }
}

/// A voice that lives.
pub struct Living {
    pub voice: Voice,
    pub witness: Arc<Witness>,
    pub engine: Engine<Model>,
}

impl Living {
    /// With a model folder and `section.key=value` settings.
    pub fn start(model: &str, settings: &[String]) -> Self {
        let sources = Sources { overrides: settings.to_vec(), ..Sources::default() };
        let config = Arc::new(sources.load().unwrap_or_else(|error| panic!("{error}")).config);
        let runtime = RuntimeOptions { cache: Some(runtime_folder()), threads: Some(2), ..RuntimeOptions::default() };
        let loader = Arc::new(OnnxLoader { runtime: runtime.clone() });
        let folder = if Path::new(model).is_absolute() { model.into() } else { fixture(model) };
        let folders = catalog::scan(&[folder], Wanted::Auto);
        let engine = Engine::start(loader, folders, EngineOptions::default(), || {}).unwrap();
        let witness = Arc::new(Witness::default());
        let states = Arc::clone(&witness);
        let observer = Box::new(move |change: &Change| {
            let entry = (Instant::now(), change.now.state, change.now.reason.clone());
            states.0.lock().unwrap().states.push(entry);
        });
        let audience: Arc<dyn Audience> = Arc::clone(&witness) as _;
        let parts = Parts { engine: engine.clone(), runtime, config, muted: false, audience: Some(audience), observer };
        let voice = Voice::start(parts).unwrap();
        Self { voice, witness, engine }
    }

    pub fn state(&self) -> State {
        self.voice.statuses().borrow().state
    }
}

impl Drop for Living {
    fn drop(&mut self) {
        self.voice.stop();
        self.engine.stop();
    }
}

/// What espeak-ng says, at the room's rate, peak 0.5.
pub fn spoken(text: &str) -> Vec<f32> {
    static SAID: Mutex<Option<HashMap<String, Vec<f32>>>> = Mutex::new(None);
    let mut said = SAID.lock().unwrap();
    said.get_or_insert_default().entry(text.to_owned()).or_insert_with(|| synthesise(text)).clone()
}

fn synthesise(text: &str) -> Vec<f32> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("speech.wav");
    let status = Command::new("espeak-ng").args(["-v", "en-gb", "-s", "150", "-w"]).arg(&file).arg(text).status();
    assert!(status.expect("espeak-ng runs: `make test` installs it").success());
    let clip = read_wav(&file, Duration::from_secs(60)).unwrap().at_rate(ROOM).unwrap();
    let peak = clip.samples.iter().fold(1e-9f32, |peak, sample| peak.max(sample.abs()));
    clip.samples.iter().map(|sample| sample * 0.5 / peak).collect()
}
