//! What a model may be for, which runs of `eddy bench` tell how well it does that here, and what they say.

use anyhow::Context;
use serde_json::Value;

use crate::engine;

/// Positions of the prompt whose reply is waited for, and of the context that tokens are made behind.
const POSITIONS: u64 = 512;
/// Seconds of the question whose answer is waited for.
const QUESTION: u64 = 3;
/// The image that is asked about.
const IMAGE: &str = "512 by 512";
/// Prompts of 128 positions are in the report for whoever asks how the time grows.
const BACKBONE: [&str; 7] = ["--only", "prefill", "decode", "--amount", "128", "--amount", "512"];

/// What a model is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Task {
    /// Written answers.
    Text,
    /// Speech in and out.
    Speech,
    /// Questions about images.
    Vision,
    /// Searching passages.
    Retrieval,
}

/// Seconds that a model took.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Until a reply begins, or for a query of a search.
    pub latency: f64,
    /// For a token behind a context of 512 positions, where tokens are made.
    pub token: Option<f64>,
    /// For a frame of 80 ms of sound, where there is sound.
    pub frame: Option<f64>,
    /// For a passage of an index, where there is one.
    pub passage: Option<f64>,
}

impl Task {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Text, Self::Speech, Self::Vision, Self::Retrieval];

    /// The key of `[models]`.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Speech => "speech",
            Self::Vision => "vision",
            Self::Retrieval => "retrieval",
        }
    }

    /// That of an installed model.
    #[must_use]
    pub fn of(task: engine::Task) -> Self {
        match task {
            engine::Task::Text => Self::Text,
            engine::Task::Speech => Self::Speech,
            engine::Task::Vision => Self::Vision,
            engine::Task::Retrieval => Self::Retrieval,
        }
    }

    /// That of a family in the catalogue, whose experts write text like any other.
    #[must_use]
    pub fn of_family(family: &str) -> Self {
        match family {
            "speech" => Self::Speech,
            "vision" => Self::Vision,
            "colbert" => Self::Retrieval,
            _ => Self::Text,
        }
    }

    /// What its latency is the wait for.
    #[must_use]
    pub fn waited_for(self) -> &'static str {
        match self {
            Self::Text => "first token after 512 positions",
            Self::Speech => "first sound after a question of 3 s",
            Self::Vision => "first token about an image of 512 by 512",
            Self::Retrieval => "a query's vectors",
        }
    }

    /// Its colour in pictures.
    #[must_use]
    pub fn colour(self) -> (&'static str, &'static str) {
        match self {
            Self::Text => ("blue", "#2563eb"),
            Self::Speech => ("green", "#15803d"),
            Self::Vision => ("purple", "#7e22ce"),
            Self::Retrieval => ("brown", "#92400e"),
        }
    }

    /// The arguments of the runs of `eddy bench` that [`Self::pace`] reads.
    #[must_use]
    pub fn runs(self) -> Vec<Vec<String>> {
        let question = QUESTION.to_string();
        let runs: &[&[&str]] = match self {
            Self::Text => &[&BACKBONE],
            Self::Speech => &[&BACKBONE, &["--only", "frame", "first", "--amount", &question]],
            Self::Vision => &[&BACKBONE, &["--only", "first"]],
            Self::Retrieval => &[&[]],
        };
        runs.iter().map(|run| run.iter().map(ToString::to_string).collect()).collect()
    }

    /// What the joined report of these runs says.
    ///
    /// # Errors
    /// When something is missing from it.
    pub fn pace(self, report: &Value) -> anyhow::Result<Pace> {
        let at = POSITIONS.into();
        let rate = |list: &str, key: &str| listed(report, list, key, &at, "tok_s");
        let per_token = || Ok::<_, anyhow::Error>(1.0 / rate("decode", "context")?);
        let silent = Pace { latency: 0.0, token: None, frame: None, passage: None };
        match self {
            Self::Text => {
                let token = per_token()?;
                let latency = POSITIONS as f64 / rate("prefill", "positions")? + token;
                Ok(Pace { latency, token: Some(token), ..silent })
            }
            Self::Speech => {
                let part = |name: &str| listed(report, "frame", "part", &name.into(), "ms");
                let frame = (part("backbone, frame")? + part("depthformer")? + part("detokenizer by 6")?) / 1e3;
                let latency = listed(report, "first_sound", "question_s", &QUESTION.into(), "s")?;
                Ok(Pace { latency, token: Some(per_token()?), frame: Some(frame), ..silent })
            }
            Self::Vision => {
                let latency = listed(report, "first_token", "image", &IMAGE.into(), "s")?;
                Ok(Pace { latency, token: Some(per_token()?), ..silent })
            }
            Self::Retrieval => {
                // Queries and passages are named with the number of their tokens, which the vocabulary decides.
                let one = |side: &str| {
                    let named = |entry: &&Value| entry["text"].as_str().is_some_and(|text| text.starts_with(side));
                    let entry = entries(report, "encode").iter().find(named);
                    let entry = entry.with_context(|| format!("eddy bench reports no {side} of encode"))?;
                    Ok::<_, anyhow::Error>(1.0 / figure(entry, &["texts_s", "median"])?)
                };
                Ok(Pace { latency: one("query")?, passage: Some(one("passage")?), ..silent })
            }
        }
    }
}

fn entries<'a>(report: &'a Value, list: &str) -> &'a [Value] {
    report.get(list).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// The number at these keys.
pub fn figure(report: &Value, keys: &[&str]) -> anyhow::Result<f64> {
    let value = keys.iter().try_fold(report, |value, key| value.get(key)).and_then(Value::as_f64);
    value.with_context(|| format!("eddy bench reports no {}", keys.join(".")))
}

/// The median of the entry of `list` whose `key` is `at`.
fn listed(report: &Value, list: &str, key: &str, at: &Value, unit: &str) -> anyhow::Result<f64> {
    let entry = entries(report, list).iter().find(|entry| entry.get(key) == Some(at));
    let entry = entry.with_context(|| format!("eddy bench reports no {list} at {at}"))?;
    figure(entry, &[unit, "median"])
}
