//! From a caller's options and the configuration to what is asked of a model and how its reply is drawn.

use std::hash::{BuildHasher, Hasher};

use eddy_config::{Auto, Config};
use eddy_ipc::{Error, Options};
use eddy_models::sampler::Sampling;
use eddy_models::speech::{Mode, ReplyOptions};
use eddy_models::text::GenerationOptions;
use serde_json::Value;

use crate::text::{Asked, Draw};

/// What is drawn with the caller's temperature and top-k; the rest is drawn as configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drawn {
    /// Nothing: writing down what was said has one right answer.
    Nothing,
    /// The text of an answer.
    Text,
    /// The sound of a voice that reads aloud.
    Sound,
}

/// The options of a reply. The caller's come first, then the conversation's, then the configuration's, then the
/// published ones.
#[must_use]
pub fn reply_options(mode: Mode, drawn: Drawn, options: [&Options; 2], config: &Config) -> ReplyOptions {
    let generation = &config.generation;
    let limit = pick(options, |options| options.max_tokens).unwrap_or(generation.max_items);
    let seed = seed(pick(options, |options| options.seed), config);
    let by_caller = pick(options, |o| o.temperature.map(drop).or(o.top_k.map(drop)).or(o.greedy.map(drop))).is_some();
    let configured = [generation.temperature, generation.audio_temperature].map(set).into_iter().flatten().count();
    let top_k = [generation.top_k, generation.audio_top_k].map(set).into_iter().flatten().count();
    let undecided = !by_caller && configured + top_k == 0;
    let published = ReplyOptions { max_items: limit as usize, seed, undecided, ..ReplyOptions::new(mode) };
    if drawn == Drawn::Nothing || pick(options, |options| options.greedy).unwrap_or(generation.greedy) {
        return published.greedy();
    }
    let (temperature, top_k) = (pick(options, |o| o.temperature), pick(options, |o| o.top_k));
    let own = |what| if drawn == what { (temperature, top_k) } else { (None, None) };
    let text = Sampling {
        top_p: set(generation.top_p).unwrap_or(f64::from(published.text.top_p)) as f32,
        min_p: set(generation.min_p).unwrap_or(f64::from(published.text.min_p)) as f32,
        repetition_penalty: set(generation.repetition_penalty).unwrap_or(1.0) as f32,
        ..sampling(published.text, own(Drawn::Text), (set(generation.temperature), set(generation.top_k)))
    };
    let audio = (set(generation.audio_temperature), set(generation.audio_top_k));
    ReplyOptions { text, audio: sampling(published.audio, own(Drawn::Sound), audio), ..published }
}

/// What a caller of a written answer asks. The caller's options come first, then the configuration's, then the habits of
/// the model.
///
/// # Errors
/// [`Error::InvalidOption`] for tools or a schema that are no JSON.
pub fn asked(messages: Vec<Value>, options: &Options, config: &Config) -> Result<Asked, Error> {
    let generation = &config.generation;
    let json = |name: &str, text: &Option<String>| {
        let Some(text) = text else { return Ok(None) };
        let parsed: Result<Value, _> = serde_json::from_str(text);
        parsed.map(Some).map_err(|error| Error::InvalidOption(format!("the option \"{name}\" is not JSON: {error}")))
    };
    let tools = json("tools", &options.tools)?.unwrap_or_default();
    if !tools.is_null() && !tools.is_array() {
        return Err(Error::InvalidOption("the option \"tools\": expected a JSON list of functions".into()));
    }
    let draw = Draw {
        greedy: options.greedy.unwrap_or(generation.greedy),
        temperature: options.temperature.or(set(generation.temperature)).map(|value| value as f32),
        top_k: options.top_k.or(set(generation.top_k)).map(|value| value as usize),
        top_p: set(generation.top_p).map(|value| value as f32),
        min_p: set(generation.min_p).map(|value| value as f32),
        repetition_penalty: set(generation.repetition_penalty).map(|value| value as f32),
    };
    let generation = GenerationOptions {
        max_tokens: options.max_tokens.unwrap_or(generation.max_tokens) as usize,
        seed: seed(options.seed, config),
        stop: options.stop.clone().unwrap_or_default(),
        ..GenerationOptions::default()
    };
    let (schema, drop_oldest) = (json("schema", &options.schema)?, options.drop_oldest.unwrap_or_default());
    Ok(Asked { messages, tools, call: false, schema, drop_oldest, draw, options: generation })
}

fn seed(asked: Option<u64>, config: &Config) -> u64 {
    asked.unwrap_or(match config.generation.seed {
        Auto::Set(seed) => seed,
        Auto::Auto => std::hash::RandomState::new().build_hasher().finish(),
    })
}

type Knobs = (Option<f64>, Option<u32>);

fn sampling(published: Sampling, caller: Knobs, configured: Knobs) -> Sampling {
    let temperature = caller.0.or(configured.0).map_or(published.temperature, |value| value as f32);
    let top_k = caller.1.or(configured.1).map_or(published.top_k, |value| value as usize);
    Sampling { temperature, top_k, ..published }
}

fn pick<T>(options: [&Options; 2], key: impl Fn(&Options) -> Option<T>) -> Option<T> {
    options.into_iter().find_map(key)
}

fn set<T>(value: Auto<T>) -> Option<T> {
    match value {
        Auto::Set(value) => Some(value),
        Auto::Auto => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caller_comes_before_the_conversation_before_the_configuration() {
        let mut config = Config::default();
        config.generation.temperature = Auto::Set(0.7);
        config.generation.audio_top_k = Auto::Set(9);
        config.generation.seed = Auto::Set(5);
        let none = Options::default();
        let conversation = Options { temperature: Some(0.3), max_tokens: Some(7), ..Options::default() };
        let caller = Options { temperature: Some(0.1), ..Options::default() };
        let drawn = |options| reply_options(Mode::Interleaved, Drawn::Text, options, &config);
        assert_eq!(drawn([&none, &none]).text.temperature, 0.7);
        assert_eq!(drawn([&none, &conversation]).text.temperature, 0.3);
        assert_eq!(drawn([&caller, &conversation]).text.temperature, 0.1);
        let options = drawn([&caller, &conversation]);
        assert_eq!((options.max_items, options.seed), (7, 5));
        assert_eq!((options.audio.temperature, options.audio.top_k), (1.0, 9), "published, and configured");
        let aloud = reply_options(Mode::Sequential, Drawn::Sound, [&caller, &none], &config);
        assert_eq!((aloud.audio.temperature, aloud.text.temperature), (0.1, 0.7));
        let heard = reply_options(Mode::Sequential, Drawn::Nothing, [&none, &none], &config);
        assert_eq!((heard.text, heard.audio), (Sampling::GREEDY, Sampling::GREEDY));
    }
}
