//! Who may do what: rules that are recorded, kept, taken back, and enforced on what runs already.

#![allow(clippy::unwrap_used)]

use eddy_ipc::client::{AccessProxy, AssistantProxy, SpeechProxy};
use eddy_ipc::{Error, Options, RequestState, Token};
use eddy_tests::bus::{Daemon, Listening, converse, greedy, question_fd};
use rustix::process::Signal;

fn own_executable() -> String {
    std::env::current_exe().unwrap().canonicalize().unwrap().to_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_denied_application_is_told_what_would_allow_it() {
    let daemon = Daemon::start(&["access.default=deny"]);
    // The manager needs the capability to manage, which a rule in the file gives to this test's executable alone.
    daemon.write_config(&format!("[access.rules.\"{}\"]\nmanage = \"allow\"\n", own_executable()));
    daemon.forget_notified();
    daemon.signal(Signal::HUP);
    daemon.wait_notified("READY=1");
    let client = daemon.client().await;
    let speech = SpeechProxy::new(&client).await.unwrap();
    let error = speech.synthesize("hello", &Options::default()).await.unwrap_err();
    // A unit comes before the executable where this test runs in one.
    assert!(
        matches!(&error, Error::NotPermitted(line) if line.contains("may not converse; `eddy access grant ")),
        "{error:?}"
    );

    let access = AccessProxy::new(&client).await.unwrap();
    access.set_rule(&own_executable(), "converse", "allow", &Options::default()).await.unwrap();
    let (heard, _) = converse(&client, &greedy("allowed")).await;
    assert_eq!(heard.state, RequestState::Done);
    let assistant = AssistantProxy::new(&client).await.unwrap();
    assert!(matches!(assistant.say("hello", &Options::default()).await, Err(Error::NotPermitted(_))));

    let rules = access.rules().await.unwrap();
    let told: Vec<(&str, &str, &str)> =
        rules.iter().map(|(_, capability, decision, source)| (&**capability, &**decision, &**source)).collect();
    assert_eq!(told, [("converse", "allow", "record"), ("manage", "allow", "configuration")]);

    // Taking it back ends what runs on its strength.
    let mut listening = Listening::to(&client, "long").await;
    let wav = question_fd();
    let options = Options {
        handle_token: Token::new("long").ok(),
        temperature: Some(2.0),
        seed: Some(1),
        max_tokens: Some(30_000),
        ..Options::default()
    };
    let (_, audio) = speech.converse((&wav).into(), &options).await.unwrap();
    listening.first().await;
    access.remove_rule(&own_executable(), "converse").await.unwrap();
    assert_eq!(listening.end().await.state, RequestState::Cancelled);
    drop(audio);
    let error = speech.synthesize("hello", &Options::default()).await.unwrap_err();
    assert!(matches!(error, Error::NotPermitted(_)), "{error:?}");
    assert!(matches!(access.remove_rule(&own_executable(), "converse").await, Err(Error::NotFound(_))));
}

#[tokio::test]
async fn the_record_outlives_the_daemon_and_its_kill() {
    let state = tempfile::tempdir().unwrap();
    let model = eddy_tests::fixtures::fixture("speech-a");
    let start = || {
        Daemon::start_with(&model, &[], |command| {
            command.env("XDG_STATE_HOME", state.path());
        })
    };
    let mut set = Vec::new();
    for round in 0..3 {
        let mut daemon = start();
        let client = daemon.client().await;
        let access = AccessProxy::new(&client).await.unwrap();
        for number in 0..20 {
            let application = format!("org.example.App{round}x{number}");
            // Told that it is done, it is on the disk; the kill comes while the next one is written.
            if number == 19 {
                let (access, options) = (access.clone(), Options::default());
                let writing = tokio::spawn(async move {
                    let _ = access.set_rule(&application, "speak", "deny", &options).await;
                });
                tokio::task::yield_now().await;
                daemon.child.kill().unwrap();
                let _ = writing.await;
            } else {
                access.set_rule(&application, "speak", "deny", &Options::default()).await.unwrap();
                set.push(application);
            }
        }
        daemon.wait();
    }
    let daemon = start();
    let client = daemon.client().await;
    let rules = AccessProxy::new(&client).await.unwrap().rules().await.unwrap();
    for application in &set {
        assert!(rules.iter().any(|(known, ..)| known == application), "{application} is lost");
    }
    assert!((57..=60).contains(&rules.len()), "{}", rules.len());
}
