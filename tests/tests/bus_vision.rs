//! Questions about images, as a caller on the bus asks them.

#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use eddy_ipc::client::VisionProxy;
use eddy_ipc::{Delta, FinishReason, Options, RequestState};
use eddy_tests::bus::{Daemon, Heard, Listening, greedy};
use eddy_tests::eddy::eddy_json;
use eddy_tests::fixtures::fixture;
use zbus::{Connection, Fd};

fn daemon(settings: &[&str]) -> Daemon {
    Daemon::start_with(&fixture("vision-a"), settings, |_| {})
}

fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(fixture(&format!("vision-reference/images/{name}"))).unwrap()
}

fn sealed(name: &str) -> OwnedFd {
    eddy_ipc::fd::seal("image", &bytes(name)).unwrap()
}

fn short(token: &str) -> Options {
    Options { max_tokens: Some(9), ..greedy(token) }
}

async fn ask(client: &Connection, images: &[OwnedFd], options: &Options) -> zbus::Result<Heard> {
    let listening = Listening::to(client, options.handle_token.as_ref().unwrap().as_str()).await;
    let images: Vec<Fd<'_>> = images.iter().map(Into::into).collect();
    let vision = VisionProxy::new(client).await.unwrap();
    vision
        .ask(&images, "Which is brighter?", options)
        .await
        .map_err(|error| zbus::Error::Failure(error.to_string()))?;
    Ok(listening.end().await)
}

#[tokio::test]
async fn a_question_is_answered_as_at_the_command_line() {
    let daemon = daemon(&[]);
    let client = daemon.client().await;
    let heard = ask(&client, &[sealed("small.png"), sealed("large.png")], &short("one")).await.unwrap();
    assert_eq!(heard.state, RequestState::Done, "{heard:?}");
    assert_eq!((heard.outcome.finish_reason, heard.outcome.tokens), (Some(FinishReason::Length), Some(9)));
    assert!(heard.outcome.latency.contains_key("look"), "{heard:?}");
    let mut tiles = heard.deltas.iter().filter_map(|delta| match delta {
        Delta::Progress { done, total } => Some((*done, *total)),
        _ => None,
    });
    assert_eq!(tiles.next_back(), Some((8, 8)), "one whole image, six tiles and a thumbnail");
    assert_eq!(heard.outcome.text.as_deref(), Some(heard.streamed().as_str()));

    let (model, small, large) =
        (fixture("vision-a"), "vision-reference/images/small.png", "vision-reference/images/large.png");
    let [model, small, large] = [model, fixture(small), fixture(large)].map(|path| path.to_str().unwrap().to_owned());
    let look = ["look", &small, &large, "Which is brighter?", "--greedy", "--max-items", "9", "--json"];
    let here = eddy_json(&[&look[..], &["--model", &model]].concat());
    assert_eq!(here["text"], heard.outcome.text.clone().unwrap());
    let through = eddy_json(&[&look[..], &["--bus-address", &daemon.bus.address]].concat());
    assert_eq!((&through["text"], &through["finish_reason"]), (&here["text"], &here["finish_reason"]));

    // The same images again are not looked at again.
    let again = ask(&client, &[sealed("small.png"), sealed("large.png")], &short("two")).await.unwrap();
    assert_eq!(again.outcome.text, heard.outcome.text);
    assert!(!again.deltas.iter().any(|delta| matches!(delta, Delta::Progress { .. })), "{again:?}");

    // A pipe instead of a file, and the knobs.
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    let mut writer = std::fs::File::from(writer);
    let image = bytes("large.png");
    let writing = std::thread::spawn(move || writer.write_all(&image));
    let options = Options { tiles: Some(1), ..short("three") };
    let piped = ask(&client, &[reader], &options).await.unwrap();
    writing.join().unwrap().unwrap();
    assert_eq!(piped.state, RequestState::Done, "{piped:?}");
    assert!(piped.deltas.contains(&Delta::Progress { done: 1, total: 1 }), "{piped:?}");
}

#[tokio::test]
async fn what_is_no_image_is_refused_before_or_after_it_is_read() {
    let daemon =
        daemon(&["limits.image_bytes=\"4KiB\"", "limits.images_per_request=2", "limits.descriptor_timeout=\"200ms\""]);
    let client = daemon.client().await;
    let refused =
        async |images: Vec<OwnedFd>, token: &str| ask(&client, &images, &short(token)).await.unwrap_err().to_string();

    let file: OwnedFd = std::fs::File::open(fixture("vision-reference/images/small.png")).unwrap().into();
    let told = refused(vec![file], "a").await;
    assert!(told.contains("images") && told.contains("seal"), "{told}");
    let folder: OwnedFd = std::fs::File::open("/").unwrap().into();
    assert!(refused(vec![folder], "b").await.contains("a folder is not read"));
    let device: OwnedFd = std::fs::File::open("/dev/zero").unwrap().into();
    assert!(refused(vec![sealed("small.png"), device], "c").await.contains("a device is not read"));
    let (_, writer) = rustix::pipe::pipe().unwrap();
    assert!(refused(vec![writer], "d").await.contains("write end"));
    let told = refused(vec![sealed("large.png")], "e").await;
    assert!(told.contains("limits.image_bytes"), "{told}");
    let told = refused((0..3).map(|_| sealed("small.png")).collect(), "f").await;
    assert!(told.contains("limits.images_per_request"), "{told}");
    assert!(refused(Vec::new(), "g").await.contains("at least one image"));
    let options = Options { tiles: Some(60), ..short("h") };
    let many = ask(&client, &[sealed("small.png")], &options).await.unwrap();
    assert!(failure(&many).contains("60 tiles are more than the 6"), "{many:?}");

    // Read, and then refused.
    let text = eddy_ipc::fd::seal("text", b"not an image").unwrap();
    let heard = ask(&client, &[sealed("small.png"), text], &short("i")).await.unwrap();
    assert!(failure(&heard).contains("image 2: it is no PNG, JPEG, WebP or GIF file"), "{heard:?}");
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    let mut endless = std::fs::File::from(writer);
    let writing = std::thread::spawn(move || while endless.write_all(&[0; 1024]).is_ok() {});
    let heard = ask(&client, &[reader], &short("j")).await.unwrap();
    assert!(failure(&heard).contains("limits.image_bytes"), "{heard:?}");
    writing.join().unwrap();

    // A writer that writes nothing, and holds nobody up for longer than it may.
    let (reader, silent) = rustix::pipe::pipe().unwrap();
    let begun = Instant::now();
    let heard = ask(&client, &[reader], &short("k")).await.unwrap();
    assert!(failure(&heard).contains("waiting for the writer"), "{heard:?}");
    assert!(begun.elapsed() >= Duration::from_millis(200));
    drop(silent);

    let fine = ask(&client, &[sealed("small.png")], &short("l")).await.unwrap();
    assert_eq!(fine.state, RequestState::Done, "{fine:?}");
}

fn failure(heard: &Heard) -> String {
    assert_eq!(heard.state, RequestState::Failed, "{heard:?}");
    heard.outcome.failure.as_ref().unwrap().message.clone()
}

#[tokio::test]
async fn a_question_can_be_cancelled_while_its_images_are_read() {
    let daemon = daemon(&[]);
    let client = daemon.client().await;
    let listening = Listening::to(&client, "slow").await;
    let vision = VisionProxy::new(&client).await.unwrap();
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    vision.ask(&[(&reader).into()], "What is this?", &short("slow")).await.unwrap();
    listening.request.cancel().await.unwrap();
    drop(writer);
    let heard = listening.end().await;
    assert_eq!((heard.state, heard.outcome.finish_reason), (RequestState::Cancelled, Some(FinishReason::Cancelled)));
}
