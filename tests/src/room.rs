//! A room with a voice in it: a sound server without hardware, a person who is espeak-ng, and the live voice in this
//! process between a virtual microphone and a virtual loudspeaker.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use eddy_audio::wav::read_wav;
use eddy_config::Sources;
use eddy_models::folder::{Precision, Wanted};
use eddy_models::listening::VoiceActivity;
use eddy_models::listening::wake_word::{Embedder, Examples};
use eddy_models::{RuntimeOptions, Stop};
use eddyd::engine::{self, Caller, Choice, Ending, Job, Task, Urgency};
use eddyd::voice::{Audience, Change, Local, State, Told, TurnEnd, Voice};

use crate::fixtures::{composed, fixture, runtime, runtime_folder};
use crate::server::{Server, within};

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
    pub called: Vec<String>,
    /// Seconds from the last word to the decision, and from there to the first sample.
    pub waits: Vec<(Duration, Duration)>,
    /// When each state began.
    pub states: Vec<(Instant, State, String)>,
}

/// Somebody who writes everything down.
#[derive(Default)]
pub struct Witness(Mutex<Diary>);

impl Witness {
    /// Forgets the answers' sound, which would fill the memory of whoever listens for an hour.
    pub fn forget_sound(&self) {
        let mut diary = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for answer in &mut diary.answers {
            *answer = Vec::new();
        }
    }

    pub fn read<T>(&self, look: impl FnOnce(&Diary) -> T) -> T {
        look(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Audience for Witness {
    fn tell(&self, told: Told<'_>) {
        let mut diary = self.0.lock().unwrap_or_else(PoisonError::into_inner);
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
            Told::Called(tool) => diary.called.push(tool.to_owned()),
            Told::Answering { wait, think } => diary.waits.push((wait, think)),
            Told::Writing | Told::Written => {}
            Told::Ended(end) => diary.ended.push(end.clone()),
            Told::Failed(error) => diary.failed.push(error.to_string()),
        }
    }
}

/// Work as urgent as the voice, so that both take turns.
struct Slowness(Duration);

impl<M> Job<M> for Slowness {
    fn step(&mut self, _: &mut M) -> engine::Step {
        std::thread::sleep(self.0);
        engine::Step::More
    }

    fn end(&mut self, _: Option<&mut M>, _: Ending) {}
}

/// A voice that lives.
pub struct Living {
    local: Local,
    pub witness: Arc<Witness>,
    _folder: tempfile::TempDir,
}

impl Living {
    /// With a model folder and `section.key=value` settings.
    pub fn start(model: &str, settings: &[String]) -> Self {
        let sources = Sources { overrides: settings.to_vec(), ..Sources::default() };
        let config = Arc::new(sources.load().unwrap_or_else(|error| panic!("{error}")).config);
        let runtime = RuntimeOptions { cache: Some(runtime_folder()), threads: Some(2), ..RuntimeOptions::default() };
        // The random model ends its answers at random; this variant of it never does, and then what is set decides.
        let composed = composed("speech-a", Some("speech-a-talkative"));
        let (folder, wanted) = match model {
            "talkative" => (composed.path().to_path_buf(), Wanted::Exactly(Precision::Fp32)),
            "shipped" => (Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/embedded/eddy-small"), Wanted::Auto),
            folder if Path::new(folder).is_absolute() => (folder.into(), Wanted::Auto),
            name => (fixture(name), Wanted::Auto),
        };
        let witness = Arc::new(Witness::default());
        let states = Arc::clone(&witness);
        let observer = Box::new(move |change: &Change| {
            let entry = (Instant::now(), change.now.state, change.now.reason.clone());
            states.0.lock().unwrap_or_else(PoisonError::into_inner).states.push(entry);
        });
        let local = Local::start(&folder, wanted, runtime, config, Arc::clone(&witness) as _, observer).unwrap();
        Self { local, witness, _folder: composed }
    }

    /// From now on something else takes so much of the engine's time before every step of the voice.
    pub fn slow_down(&self, step: Duration) {
        let engine = self.local.engine();
        let choice = Choice { task: Task::Speech, named: None, preferred: "" };
        let model = engine.choose(choice).unwrap();
        let ticket = Caller::new().ticket(1).unwrap();
        engine.submit(Box::new(Slowness(step)), model, Urgency::Voice, ticket).unwrap();
    }

    pub fn voice(&self) -> &Voice {
        self.local.voice()
    }

    pub fn state(&self) -> State {
        self.voice().statuses().borrow().state
    }

    /// Everything that it did since `began`, for whoever looks into a failure.
    pub fn account(&self, began: Instant) -> String {
        let seconds = |at: &Instant| at.saturating_duration_since(began).as_secs_f64();
        self.witness.read(|diary| {
            let states = diary.states.iter().map(|(at, state, why)| format!("{:7.3} {state:?}: {why}", seconds(at)));
            let now = self.voice().statuses().borrow().clone();
            format!("{}\n{now:?}\nfailed: {:?}", states.collect::<Vec<_>>().join("\n"), diary.failed)
        })
    }

    /// Waits for a state; fails with everything that it did instead.
    #[track_caller]
    pub fn wait(&self, state: State, seconds: f64) {
        let begun = Instant::now();
        while self.state() != state {
            let account = || self.account(begun);
            assert!(begun.elapsed().as_secs_f64() < seconds, "not {state:?} within {seconds} s\n{}", account());
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// The loudspeaker is heard by the microphone, so many milliseconds later and at this part of its level.
pub fn echo(server: &Server, delay: u32, level: f32) {
    let late = format!("latency_msec={delay}");
    server.load(&["module-loopback", "source=vspk.monitor", "sink=vmic_sink", &late, "adjust_time=0"]);
    within(Duration::from_secs(5), "the loopback is there", || {
        let list = server.control(&["list", "short", "sink-inputs"]);
        let index = list.split('\t').next().filter(|index| !index.is_empty())?.to_string();
        // The server's volumes are cubic.
        let volume = format!("{}", (65_536.0 * level.cbrt()) as u32);
        server.control(&["set-sink-input-volume", &index, &volume]);
        Some(())
    });
}

/// What espeak-ng says, at the room's rate, peak 0.5.
pub fn spoken(text: &str) -> Vec<f32> {
    static SAID: Mutex<Option<HashMap<String, Vec<f32>>>> = Mutex::new(None);
    let mut said = SAID.lock().unwrap();
    said.get_or_insert_default().entry(text.to_owned()).or_insert_with(|| synthesise("en-gb:150", text, ROOM)).clone()
}

/// The same in a voice and at a speed of espeak-ng, `en-gb+f2:150`, mono at 16 kHz and with half a second of faint noise
/// around it, as in a room.
pub fn said(voice: &str, text: &str) -> Vec<f32> {
    let around = vec![0.0; 8_000];
    let mut sound = [around.clone(), synthesise(voice, text, 16_000), around].concat();
    let mut random = fastrand::Rng::with_seed(text.len() as u64);
    sound.iter_mut().for_each(|sample| *sample += 1e-3 * (random.f32() - 0.5));
    sound
}

/// What `eddy wake enroll` keeps of a phrase in the voice of [`spoken`].
pub fn enrolled(phrase: &str) -> tempfile::NamedTempFile {
    let takes = ["en-gb:150", "en-gb:142", "en-gb:160"].map(|voice| said(voice, phrase));
    let runtime = runtime();
    let stop = Stop::new(&runtime).unwrap();
    let mut embedder = Embedder::load(&runtime, &stop).unwrap();
    let mut detector = VoiceActivity::load(&runtime, &stop).unwrap();
    let examples = Examples::enrol(&mut embedder, &mut detector, &takes).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    serde_json::to_writer(&file, &examples).unwrap();
    file
}

fn synthesise(voice: &str, text: &str, rate: u32) -> Vec<f32> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("speech.wav");
    let (voice, speed) = voice.split_once(':').unwrap();
    let status = Command::new("espeak-ng").args(["-v", voice, "-s", speed, "-w"]).arg(&file).arg(text).status();
    assert!(status.expect("espeak-ng runs: `make test` installs it").success());
    let clip = read_wav(&file, Duration::from_secs(60)).unwrap().at_rate(rate).unwrap();
    let peak = clip.samples.iter().fold(1e-9f32, |peak, sample| peak.max(sample.abs()));
    clip.samples.iter().map(|sample| sample * 0.5 / peak).collect()
}

/// Something that is no speech, at the room's rate, peak 0.5: a cough (a burst of breath and a shorter one) or a door (a
/// low thump that rings). Each `number` is another one.
pub fn noise(kind: &str, number: u64) -> Vec<f32> {
    let mut seed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut random = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    let spread = 1.0 + 0.2 * random();
    let rate = ROOM as f32;
    let mut out = vec![0.0; (0.5 * rate) as usize];
    match kind {
        "cough" => {
            let mut low = 0.0;
            for (begin, length, level) in [(0.0, 0.09 * spread, 1.0), (0.2 * spread, 0.12, 0.5)] {
                for n in 0..(length * rate) as usize {
                    let along = n as f32 / (length * rate);
                    low += 0.35 * (random() - low);
                    out[(begin * rate) as usize + n] += level * low * (1.0 - along) * (along * 40.0).min(1.0);
                }
            }
        }
        "door" => {
            for (n, sample) in out.iter_mut().enumerate() {
                let time = n as f32 / rate;
                let thump = (std::f32::consts::TAU * 70.0 * spread * time).sin() * (-18.0 * time).exp();
                *sample = thump + 0.5 * random() * (-90.0 * time).exp();
            }
        }
        other => panic!("no noise {other}"),
    }
    let peak = out.iter().fold(1e-9f32, |peak, sample| peak.max(sample.abs()));
    out.iter_mut().for_each(|sample| *sample *= 0.5 / peak);
    out
}
