//! Speech over the bus: the same words and samples as without it, to the one who asked and to nobody else.

#![allow(clippy::unwrap_used)]

use std::os::fd::OwnedFd;
use std::time::Duration;

use eddy_ipc::client::{AssistantProxy, ConversationProxy, ModelProxy, RequestProxy, SpeechProxy};
use eddy_ipc::{
    Bus, Collection, Error, FinishReason, ModelState, Options, Outcome, RequestState, Role, Token, Turn, path,
};
use eddy_tests::bus::{Daemon, Listening, PATIENCE, converse, greedy, question_fd, samples, within};
use eddy_tests::eddy::eddy_json;
use eddy_tests::fixtures::fixture;
use futures_util::StreamExt;

fn text(path: &std::path::Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// Sample for sample.
fn assert_same_sound(ours: &[i16], theirs: &[i16]) {
    assert_eq!(ours.len(), theirs.len());
    let apart = ours.iter().zip(theirs).position(|(a, b)| a != b);
    assert!(apart.is_none(), "apart at sample {apart:?}");
}

/// What `eddy converse` answers in a process of its own.
fn in_process() -> (String, Vec<i16>, u64) {
    let out = tempfile::tempdir().unwrap();
    let file = out.path().join("answer.wav");
    let arguments = ["converse", &text(&fixture("questions/question.wav")), "-o", &text(&file)];
    let model = text(&fixture("speech-a"));
    let report = eddy_json(&[&arguments[..], &["--model", &model, "--greedy", "--json"]].concat());
    let samples = hound::WavReader::open(&file).unwrap().into_samples().map(Result::unwrap).collect();
    (report["text"].as_str().unwrap().to_owned(), samples, report["items"].as_u64().unwrap())
}

#[tokio::test]
async fn a_question_gets_the_answer_it_gets_without_a_bus() {
    let daemon = Daemon::start(&[]);
    let client = daemon.client().await;
    let (words, sound, items) = in_process();
    let (heard, heard_sound) = converse(&client, &greedy("one")).await;
    assert_eq!(heard.state, RequestState::Done, "{heard:?}");
    assert_eq!(heard.outcome.text.as_deref(), Some(words.as_str()));
    assert_eq!(heard.streamed(), words);
    assert_eq!(heard.outcome.tokens, Some(items));
    assert_eq!(heard.outcome.finish_reason, Some(FinishReason::Stop));
    assert_eq!(heard.outcome.samples, Some(heard_sound.len() as u64));
    assert!(!sound.is_empty());
    assert_same_sound(&heard_sound, &sound);
    for stage in
        ["wait", "hear", "prefill", "decode", "depthformer", "detokenize", "first_text", "first_sound", "reply", "rtf"]
    {
        assert!(heard.outcome.latency.contains_key(stage), "{stage}: {:?}", heard.outcome.latency);
    }
}

#[tokio::test]
async fn transcripts_and_voices_are_those_of_the_probe() {
    let daemon = Daemon::start(&["models.precision=fp32"]);
    let client = daemon.client().await;
    let speech = SpeechProxy::new(&client).await.unwrap();
    let (model, wav) = (text(&fixture("speech-a")), text(&fixture("questions/question.wav")));
    let probed = eddy_json(&["probe", &model, "--task", "transcribe", "--wav", &wav, "--precision", "fp32"]);

    // A sealed memory file, and a pipe that is written to meanwhile; the text through the stream too.
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    let (stream_end, stream) = rustix::pipe::pipe().unwrap();
    let listening = Listening::to(&client, "piped").await;
    let options = Options { handle_token: Token::new("piped").ok(), stream: Some(stream), ..Options::default() };
    speech.transcribe((&reader).into(), &options).await.unwrap();
    drop((reader, options));
    let bytes = std::fs::read(fixture("questions/question.wav")).unwrap();
    tokio::task::spawn_blocking(move || {
        use std::io::Write;
        std::fs::File::from(writer).write_all(&bytes).unwrap();
    });
    let streamed = tokio::task::spawn_blocking(|| std::io::read_to_string(std::fs::File::from(stream_end)).unwrap());
    let heard = listening.end().await;
    assert_eq!(heard.outcome.text.as_deref(), probed["text"].as_str(), "{heard:?}");
    assert_eq!(heard.streamed(), probed["text"].as_str().unwrap());
    assert_eq!(streamed.await.unwrap(), probed["text"].as_str().unwrap());
    assert_eq!(heard.outcome.tokens, Some(probed["items"].as_array().unwrap().len() as u64));

    let words = "The quick brown fox.";
    let probed = eddy_json(&["probe", &model, "--task", "speak", "--text", words, "--precision", "fp32"]);
    let listening = Listening::to(&client, "aloud").await;
    let (_, audio) = speech.synthesize(words, &greedy("aloud")).await.unwrap();
    let sound = samples(audio).await;
    let heard = listening.end().await;
    assert_eq!(heard.outcome.tokens, Some(probed["items"].as_array().unwrap().len() as u64));
    assert_eq!(sound.len() as u64, probed["samples"].as_u64().unwrap());
    assert_eq!(heard.outcome.samples, probed["samples"].as_u64());
}

#[tokio::test]
async fn a_seed_decides_and_callers_at_once_do_not_disturb_each_other() {
    let daemon = Daemon::start(&[]);
    let seeded = |token: &str, seed| Options {
        handle_token: Token::new(token).ok(),
        seed: Some(seed),
        max_tokens: Some(40),
        ..Options::default()
    };
    let alone = {
        let client = daemon.client().await;
        [converse(&client, &seeded("a", 1)).await.1, converse(&client, &seeded("b", 2)).await.1]
    };
    assert!(alone[0] != alone[1], "two seeds, one answer");
    let mut clients = Vec::new();
    for number in 0..6_u64 {
        let client = daemon.client().await;
        clients.push(tokio::spawn(async move { converse(&client, &seeded("q", number % 2 + 1)).await }));
    }
    for (number, client) in clients.into_iter().enumerate() {
        let (heard, sound) = client.await.unwrap();
        assert_eq!(heard.state, RequestState::Done);
        assert_same_sound(&sound, &alone[number % 2]);
        assert!(heard.outcome.tokens.unwrap() <= 40);
    }
}

#[tokio::test]
async fn signals_and_results_are_the_owners_alone() {
    let daemon = Daemon::start(&[]);
    let (owner, other) = (daemon.client().await, daemon.client().await);
    // Listens for everything that anybody is sent.
    let rule = zbus::MatchRule::builder().interface("org.eddy.Request1").build().unwrap();
    let mut seen = zbus::MessageStream::for_match_rule(rule, &other, None).await.unwrap();
    let (heard, _) = converse(&owner, &greedy("mine")).await;
    assert!(!heard.deltas.is_empty());
    let token = Token::new("mine").unwrap();
    let sender = owner.unique_name().unwrap().to_string();
    let place = path(Bus::Assistant, Collection::Request { sender: Some(&sender), token: &token });
    let mine = RequestProxy::builder(&owner).path(place.clone()).build().await.unwrap();
    let theirs = RequestProxy::builder(&other).path(place.clone()).build().await.unwrap();
    let late = Outcome::from_dictionary(mine.result().await.unwrap()).unwrap();
    assert_eq!(late, heard.outcome, "a late reader finds the same");
    assert!(theirs.result().await.unwrap().is_empty());
    assert_eq!(theirs.state().await.unwrap(), "done");
    assert!(matches!(theirs.cancel().await, Err(Error::NotOwner(_))));
    let manager = zbus::fdo::ObjectManagerProxy::builder(&other)
        .destination(Bus::Assistant.name())
        .path(Bus::Assistant.root())
        .build()
        .await
        .unwrap();
    let objects = format!("{:?}", manager.get_managed_objects().await.unwrap());
    assert!(objects.contains("mine") && !objects.contains("finish_reason"), "{objects}");
    let words = heard.outcome.text.as_deref().unwrap();
    assert!(words.len() > 8 && !objects.contains(words));
    assert!(futures_util::FutureExt::now_or_never(seen.next()).is_none(), "somebody else's signal");
}

#[tokio::test]
async fn a_conversation_remembers_and_reads_nothing_twice() {
    let daemon = Daemon::start(&[]);
    let client = daemon.client().await;
    let assistant = AssistantProxy::new(&client).await.unwrap();
    let options = Options { greedy: Some(true), max_tokens: Some(30), ..Options::default() };
    let place = assistant.open_conversation(&options).await.unwrap();
    let conversation = ConversationProxy::builder(&client).path(place.clone()).build().await.unwrap();

    let ask = async |conversation: &ConversationProxy<'_>, token: &str, words: &str| {
        let listening = Listening::to(&client, token).await;
        let options = Options { handle_token: Token::new(token).ok(), ..Options::default() };
        conversation.ask(words, &options).await.unwrap();
        let heard = listening.end().await;
        assert_eq!(heard.state, RequestState::Done, "{heard:?}");
        heard.outcome
    };
    let first = ask(&conversation, "first", "hello").await;
    let second = ask(&conversation, "second", "and now?").await;
    let spoken = {
        let listening = Listening::to(&client, "third").await;
        let options = Options { handle_token: Token::new("third").ok(), ..Options::default() };
        let wav = question_fd();
        let (_, audio) = conversation.ask_spoken((&wav).into(), &options).await.unwrap();
        let sound = samples(audio).await;
        let heard = listening.end().await;
        assert_eq!(heard.outcome.samples, Some(sound.len() as u64));
        heard.outcome
    };
    let history = async |conversation: &ConversationProxy<'_>| -> Vec<Turn> {
        let turns = conversation.history().await.unwrap();
        turns.into_iter().map(|turn| Turn::from_dictionary(turn).unwrap()).collect()
    };
    let turns = history(&conversation).await;
    let said: Vec<(Role, &str)> = turns.iter().map(|turn| (turn.role, turn.text.as_str())).collect();
    assert_eq!(
        said,
        [
            (Role::User, "hello"),
            (Role::Assistant, first.text.as_deref().unwrap()),
            (Role::User, "and now?"),
            (Role::Assistant, second.text.as_deref().unwrap()),
            (Role::User, ""),
            (Role::Assistant, spoken.text.as_deref().unwrap()),
        ]
    );
    // Another conversation does not know of this one, and the same question gives the same answer there.
    let place = assistant.open_conversation(&options).await.unwrap();
    let other = ConversationProxy::builder(&client).path(place).build().await.unwrap();
    assert_eq!(ask(&other, "o1", "hello").await.text, first.text);
    assert_eq!(history(&other).await.len(), 2);

    // The model leaves memory and with it what it has read; the conversation goes on from its turns.
    let place = path(Bus::Admin, Collection::Model("speech-a"));
    let model = ModelProxy::builder(&client).path(place).build().await.unwrap();
    model.unload().await.unwrap();
    within(PATIENCE, "it goes", async || model.state().await.unwrap() == ModelState::Unloaded.as_str()).await;
    ask(&conversation, "fourth", "still there?").await;
    assert_eq!(history(&conversation).await.len(), 8);

    conversation.reset().await.unwrap();
    assert!(history(&conversation).await.is_empty());
    assert_eq!(ask(&conversation, "fifth", "hello").await.text, first.text, "as if nothing had been said");
    let stranger = daemon.client().await;
    let theirs =
        ConversationProxy::builder(&stranger).path(conversation.inner().path().to_owned()).build().await.unwrap();
    assert!(theirs.history().await.unwrap().is_empty());
    assert!(matches!(theirs.ask("hello", &Options::default()).await, Err(Error::NotOwner(_))));
    conversation.close().await.unwrap();
    assert!(conversation.ask("hello", &Options::default()).await.is_err());
}

#[tokio::test]
async fn turns_of_a_conversation_wait_for_each_other_in_their_order() {
    let daemon = Daemon::start(&[]);
    let client = daemon.client().await;
    let assistant = AssistantProxy::new(&client).await.unwrap();
    let options = Options { greedy: Some(true), max_tokens: Some(12), ..Options::default() };
    let place = assistant.open_conversation(&options).await.unwrap();
    let conversation = ConversationProxy::builder(&client).path(place).build().await.unwrap();
    let mut listening = Vec::new();
    for number in 0..4 {
        let token = format!("t{number}");
        listening.push(Listening::to(&client, &token).await);
        // The least urgent first: the order is the conversation's all the same.
        let priority = if number == 0 { eddy_ipc::Priority::Batch } else { eddy_ipc::Priority::Interactive };
        let options = Options { handle_token: Token::new(&token).ok(), priority: Some(priority), ..Options::default() };
        conversation.ask(&format!("question {number}"), &options).await.unwrap();
    }
    for listening in listening {
        assert_eq!(listening.end().await.state, RequestState::Done);
    }
    let asked: Vec<String> = conversation
        .history()
        .await
        .unwrap()
        .into_iter()
        .step_by(2)
        .map(|turn| Turn::from_dictionary(turn).unwrap().text)
        .collect();
    assert_eq!(asked, ["question 0", "question 1", "question 2", "question 3"]);
}

#[tokio::test]
async fn a_reply_that_nobody_reads_waits_and_costs_the_others_nothing() {
    let daemon = Daemon::start(&["limits.descriptor_timeout=1s"]);
    let (lazy, eager) = (daemon.client().await, daemon.client().await);
    let speech = SpeechProxy::new(&lazy).await.unwrap();
    let listening = Listening::to(&lazy, "lazy").await;
    let wav = question_fd();
    // More than the pipe holds: seed 1 speaks to the limit.
    let options = Options {
        handle_token: Token::new("lazy").ok(),
        seed: Some(1),
        temperature: Some(1.5),
        max_tokens: Some(2_000),
        ..Options::default()
    };
    let (_, audio) = speech.converse((&wav).into(), &options).await.unwrap();
    let (heard, _) = converse(&eager, &greedy("eager")).await;
    assert_eq!(heard.state, RequestState::Done);
    let heard = listening.end().await;
    let kept: OwnedFd = audio.into();
    match heard.state {
        // So long that it had to wait: given up after the configured second.
        RequestState::Failed => {
            let failure = heard.outcome.failure.unwrap();
            assert!(failure.name.ends_with("TimedOut") && failure.message.contains("reader"), "{failure:?}");
        }
        RequestState::Done => assert!(heard.outcome.samples.unwrap() * 2 <= 300_000, "{:?}", heard.outcome),
        other => panic!("{other:?}"),
    }
    drop(kept);
    tokio::time::sleep(Duration::from_millis(10)).await;
}
