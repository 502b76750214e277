//! A small service on one end of a connection: errors, options and descriptors as they cross it, and the
//! comparison of a service with the interface files.

mod common;

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::sync::Mutex;
use std::time::Duration;

use eddy_ipc::client::{AssistantProxy, TextProxy};
use eddy_ipc::fd::Outlet;
use eddy_ipc::{Error, Options, Token, accepts, differences};
use zbus::{OwnedObjectPath, OwnedVariant, interface};

/// `org.eddy.Text1` as the file has it. Answers through the caller's stream.
struct Service {
    seen: Mutex<Option<Options>>,
}

#[interface(name = "org.eddy.Text1")]
impl Service {
    #[zbus(out_args("request"))]
    fn generate(
        &self,
        messages: Vec<(String, String)>,
        options: HashMap<String, OwnedVariant>,
    ) -> Result<OwnedObjectPath, Error> {
        let mut options = Options::read(options, accepts::GENERATE)?;
        if messages.is_empty() {
            return Err(Error::invalid_argument("messages", "at least one message"));
        }
        if let Some(stream) = options.stream.take() {
            let mut outlet = Outlet::open(stream, "stream")?;
            outlet.write_all("grüße".as_bytes(), Duration::from_secs(1)).expect("the reader is there");
        }
        *self.seen.lock().expect("not poisoned") = Some(options);
        Ok(OwnedObjectPath::try_from("/org/eddy/Assistant1/request/peer/q").expect("valid"))
    }
}

/// The same interface with everything a little wrong.
struct Wrong;

#[interface(name = "org.eddy.Text1")]
impl Wrong {
    fn generate(&self, messages: Vec<String>) -> String {
        messages.concat()
    }

    #[zbus(property)]
    fn invented(&self) -> u32 {
        0
    }
}

async fn serving() -> (zbus::Connection, zbus::Connection) {
    let (client, server) = common::pair().await;
    let service = Service { seen: Mutex::new(None) };
    server.object_server().at("/org/eddy/Assistant1", service).await.expect("free");
    (client, server)
}

#[tokio::test]
async fn options_and_streams_cross_the_connection() {
    let (client, server) = serving().await;
    let (reader, writer) = rustix::pipe::pipe().expect("a pipe");
    let options = Options {
        handle_token: Some(Token::new("q").expect("valid")),
        seed: Some(u64::MAX),
        temperature: Some(0.25),
        stream: Some(writer),
        ..Options::default()
    };
    let text = TextProxy::new(&client).await.expect("built");
    let path = text.generate(&[("user", "hello")], &options).await.expect("answered");
    assert_eq!(path.as_str(), "/org/eddy/Assistant1/request/peer/q");
    drop(options);
    let mut streamed = String::new();
    File::from(reader).read_to_string(&mut streamed).expect("UTF-8 until the end");
    assert_eq!(streamed, "grüße");
    let service = server.object_server().interface::<_, Service>("/org/eddy/Assistant1").await.expect("there");
    let seen = service.get().await.seen.lock().expect("not poisoned").take().expect("called");
    assert_eq!((seen.seed, seen.temperature, seen.greedy), (Some(u64::MAX), Some(0.25), None));
    assert_eq!(seen.handle_token, options_token());
}

fn options_token() -> Option<Token> {
    Token::new("q").ok()
}

#[tokio::test]
async fn errors_come_back_with_their_name_and_sentence() {
    let (client, _server) = serving().await;
    let text = TextProxy::new(&client).await.expect("built");
    match text.generate(&[], &Options::default()).await {
        Err(Error::InvalidArgument(sentence)) => assert_eq!(sentence, "messages: expected at least one message"),
        other => panic!("{other:?}"),
    }
    let file: OwnedFd = File::open("/dev/null").expect("there").into();
    let options = Options { stream: Some(file), ..Options::default() };
    match text.generate(&[("user", "x")], &options).await {
        Err(Error::InvalidDescriptor(sentence)) => assert_eq!(sentence, "stream: pass the write end of a pipe"),
        other => panic!("{other:?}"),
    }
    let options = Options { voice: Some(eddy_ipc::SpeakerVoice::UkMale), ..Options::default() };
    let refused = text.generate(&[("user", "x")], &options).await.expect_err("no voice in text");
    assert!(refused.to_string().contains("\"voice\" has no meaning"), "{refused}");
    let absent = AssistantProxy::new(&client).await.expect("built").interrupt().await.expect_err("not served");
    assert!(matches!(absent, Error::Bus(_)), "{absent:?}");
}

#[tokio::test]
async fn a_service_is_compared_with_the_files() {
    let (client, server) = serving().await;
    let introspect = zbus::fdo::IntrospectableProxy::builder(&client)
        .destination("org.eddy.Assistant1")
        .path("/org/eddy/Assistant1")
        .build()
        .await
        .expect("built");
    let right = introspect.introspect().await.expect("answered");
    assert_eq!(differences(&right), [""; 0]);

    server.object_server().at("/wrong", Wrong).await.expect("free");
    let introspect = zbus::fdo::IntrospectableProxy::builder(&client)
        .destination("org.eddy.Assistant1")
        .path("/wrong")
        .build()
        .await
        .expect("built");
    let wrong = introspect.introspect().await.expect("answered");
    assert_eq!(
        differences(&wrong),
        [
            "org.eddy.Text1.Generate is a method (as) -> (s), and a method (a(ss), a{sv}) -> (o) in the interface file",
            "org.eddy.Text1.Invented is not in the interface file: a property u (read, change signal true)",
        ]
    );
}
