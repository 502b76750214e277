//! Retrieval1 and Index1 on the bus: the encoder's own vectors, searches that find, indexes that outlive daemon and kill.

#![allow(clippy::unwrap_used)]

use eddy_ipc::client::{IndexProxy, RetrievalProxy};
use eddy_ipc::fd::vectors;
use eddy_ipc::{Error, Options, RequestState, Token};
use eddy_models::Stop;
use eddy_models::retrieval::{Encoder, Side, max_sim};
use eddy_tests::bus::{Daemon, Listening, PATIENCE, models, within};
use eddy_tests::fixtures::{fixture, runtime};
use rustix::process::Signal;
use zbus::Connection;

const MODEL: &str = "colbert-causal";

fn start(change: impl FnOnce(&mut std::process::Command)) -> Daemon {
    Daemon::start_with(&models(), &[&format!("models.retrieval={MODEL}")], change)
}

async fn index<'a>(client: &Connection, path: &str) -> IndexProxy<'a> {
    let uncached = zbus::proxy::CacheProperties::No;
    IndexProxy::builder(client).path(path.to_owned()).cache_properties(uncached).build().await.unwrap()
}

fn documents(count: usize) -> Vec<(String, String)> {
    let subject = ["kettle", "harbour", "violin", "meadow", "ledger", "comet", "saddle"];
    let text =
        |number: usize| format!("note {number} about the {} and number {}", subject[number % 7], number * 31 % 97);
    (0..count).map(|number| (format!("n{number}"), text(number))).collect()
}

fn borrowed(documents: &[(String, String)]) -> Vec<(&str, &str)> {
    documents.iter().map(|(id, text)| (id.as_str(), text.as_str())).collect()
}

#[tokio::test]
async fn vectors_are_the_encoders_and_searches_find_what_fits_best() {
    let daemon = start(|_| {});
    let client = daemon.client().await;
    let retrieval = RetrievalProxy::new(&client).await.unwrap();
    let runtime = runtime();
    let stop = Stop::new(&runtime).unwrap();
    let mut encoder = Encoder::load(&runtime, &fixture(MODEL), "auto".parse().unwrap(), &stop).unwrap();
    let texts: Vec<String> = documents(40).into_iter().map(|(_, text)| text).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    for (is_query, side) in [(true, Side::Query), (false, Side::Document)] {
        let pipe = retrieval.encode(&texts, is_query, &Options::default()).await.unwrap();
        let read = move || vectors(&mut std::fs::File::from(std::os::fd::OwnedFd::from(pipe))).unwrap();
        let (got, width) = tokio::task::spawn_blocking(read).await.unwrap();
        assert_eq!((width as usize, got.len()), (encoder.width(), texts.len()));
        // In the batches that the daemon makes, the last bits included.
        let expected: Vec<_> = texts.chunks(16).flat_map(|batch| encoder.encode(batch, side).unwrap()).collect();
        for (got, expected) in got.iter().zip(&expected) {
            assert_eq!(got, expected.data());
        }
    }

    let path = retrieval.create_index("notes", &Options::default()).await.unwrap();
    let notes = index(&client, path.as_str()).await;
    assert_eq!((notes.model().await.unwrap().as_str(), notes.count().await.unwrap()), (MODEL, 0));
    assert!(matches!(retrieval.create_index("notes", &Options::default()).await, Err(Error::Exists(_))));
    assert!(matches!(retrieval.create_index("a/b", &Options::default()).await, Err(Error::InvalidArgument(_))));
    let documents = documents(100);
    let listening = Listening::to(&client, "add").await;
    let options = Options { handle_token: Token::new("add").ok(), ..Options::default() };
    notes.add(&borrowed(&documents), &options).await.unwrap();
    let heard = listening.end().await;
    assert_eq!((heard.state, heard.outcome.added), (RequestState::Done, Some(100)), "{heard:?}\n{}", daemon.log());
    assert_eq!(notes.count().await.unwrap(), 100);
    assert!(notes.bytes().await.unwrap() > 1000);

    for query in ["the comet", "harbour 17", "a saddle"] {
        let query_vectors = encoder.encode(&[query], Side::Query).unwrap().remove(0);
        let texts: Vec<&str> = documents.iter().map(|(_, text)| text.as_str()).collect();
        let document_vectors = texts.chunks(16).flat_map(|batch| encoder.encode(batch, Side::Document).unwrap());
        let best = document_vectors.map(|vectors| max_sim(&query_vectors, &vectors)).fold(f32::MIN, f32::max);
        let hits = notes.search(query, 5, &Options::default()).await.unwrap();
        assert_eq!(hits.len(), 5);
        assert!((hits[0].1 - f64::from(best)).abs() < 1e-2, "{query}: {} is not {best}", hits[0].1);
        assert!(hits.windows(2).all(|pair| pair[0].1 >= pair[1].1));
        let text = String::try_from(hits[0].2["text"].clone()).unwrap();
        assert!(documents.iter().any(|(id, known)| *id == hits[0].0 && *known == text));
    }
    assert_eq!(notes.remove(&["n1", "n2", "nobody"], &Options::default()).await.unwrap(), 2);
    assert_eq!(notes.count().await.unwrap(), 98);
    assert!(matches!(notes.search("x", 0, &Options::default()).await, Err(Error::InvalidArgument(_))));
    assert!(matches!(notes.search(" ", 1, &Options::default()).await, Err(Error::InvalidArgument(_))));
    assert_eq!(retrieval.indexes().await.unwrap(), [path]);
    notes.drop_index().await.unwrap();
    assert!(retrieval.indexes().await.unwrap().is_empty());
    assert!(notes.search("x", 1, &Options::default()).await.is_err());
}

#[tokio::test]
async fn a_kill_while_adding_loses_the_unfinished_batch_alone() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let mut daemon = start(|command| {
        command.env("XDG_STATE_HOME", &state);
    });
    let client = daemon.client().await;
    let retrieval = RetrievalProxy::new(&client).await.unwrap();
    let path = retrieval.create_index("notes", &Options::default()).await.unwrap();
    let notes = index(&client, path.as_str()).await;
    let documents = documents(4000);
    notes.add(&borrowed(&documents), &Options::default()).await.unwrap();
    within(PATIENCE, "some are written", async || notes.count().await.unwrap() >= 64).await;
    let seen = notes.count().await.unwrap();
    daemon.signal(Signal::KILL);
    daemon.wait();

    let daemon = start(|command| {
        command.env("XDG_STATE_HOME", &state);
    });
    let client = daemon.client().await;
    let retrieval = RetrievalProxy::new(&client).await.unwrap();
    assert_eq!(retrieval.indexes().await.unwrap(), std::slice::from_ref(&path));
    let notes = index(&client, path.as_str()).await;
    let kept = notes.count().await.unwrap();
    assert!(kept >= seen && kept < 4000 && kept.is_multiple_of(16), "{seen} were seen, {kept} are there");
    let hits = notes.search("the comet", 3, &Options::default()).await.unwrap();
    assert_eq!(hits.len(), 3);
    // The rest is added as if nothing had been; what is there already is replaced.
    let listening = Listening::to(&client, "rest").await;
    let options = Options { handle_token: Token::new("rest").ok(), ..Options::default() };
    notes.add(&borrowed(&documents[..usize::try_from(kept).unwrap() + 32]), &options).await.unwrap();
    assert_eq!(listening.end().await.state, RequestState::Done);
    assert_eq!(notes.count().await.unwrap(), kept + 32);
}

#[tokio::test]
async fn an_index_is_changed_by_its_maker_alone() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    {
        let daemon = start(|command| {
            command.env("XDG_STATE_HOME", &state);
        });
        let client = daemon.client().await;
        let retrieval = RetrievalProxy::new(&client).await.unwrap();
        retrieval.create_index("notes", &Options::default()).await.unwrap();
    }
    // As if another application had made it.
    let owner = state.join("eddy/indexes/notes/owner");
    assert!(std::fs::read_to_string(&owner).unwrap().starts_with('/'), "this program's executable");
    std::fs::write(&owner, "org.example.Notes").unwrap();
    let daemon = Daemon::start_with(&models(), &["access.default=deny"], |command| {
        command.env("XDG_STATE_HOME", &state);
    });
    daemon.write_config(&format!(
        "[access.rules.\"{}\"]\nconverse = \"allow\"\nmanage = \"allow\"\n",
        std::env::current_exe().unwrap().canonicalize().unwrap().display()
    ));
    daemon.forget_notified();
    daemon.signal(Signal::HUP);
    daemon.wait_notified("READY=1");
    let client = daemon.client().await;
    let retrieval = RetrievalProxy::new(&client).await.unwrap();
    assert!(retrieval.indexes().await.unwrap().is_empty(), "it is another's");
    let notes = index(&client, "/org/eddy/Assistant1/index/notes").await;
    let refusals = [
        notes.add(&[("a", "b")], &Options::default()).await.map(drop),
        notes.remove(&["a"], &Options::default()).await.map(drop),
        notes.drop_index().await,
        notes.search("x", 1, &Options::default()).await.map(drop),
    ];
    for refusal in refusals {
        assert!(matches!(refusal, Err(Error::NotOwner(_) | Error::NotPermitted(_))), "{refusal:?}");
    }
}
