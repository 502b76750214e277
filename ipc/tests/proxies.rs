//! The clients and the interface files agree.
//!
//! The other end of the connection knows nothing but the files: it refuses members and types that are not in
//! them, answers with sample values of the types they promise, and keeps account. Every client method is called,
//! every property read and written, every signal received; then the account has to hold every member of every
//! file.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

use eddy_ipc::client::{
    AccessProxy, AssistantProxy, ConversationProxy, DaemonProxy, IndexProxy, ModelProxy, ModelsProxy, RequestProxy,
    RetrievalProxy, SpeechProxy, TextProxy, VisionProxy,
};
use eddy_ipc::{Bus, Delta, INTERFACES, Options, Outcome};
use futures_util::StreamExt;
use zbus::wire::Signature;
use zbus::{Array, Connection, Dict, Fd, Message, MessageStream, ObjectPath, Structure, Variant};
use zbus_xml::{Arg, ArgDirection, Node};

/// `(interface, member)` to the number of times it was used.
type Account = Arc<Mutex<BTreeMap<(String, String), usize>>>;

fn null() -> OwnedFd {
    std::fs::File::open("/dev/null").expect("every system has it").into()
}

/// A value of any type, with one element in every container.
fn sample(signature: &Signature) -> Variant<'static> {
    match signature {
        Signature::Bool => true.into(),
        Signature::U32 => 7u32.into(),
        Signature::U64 => 7u64.into(),
        Signature::F64 => 0.5f64.into(),
        Signature::Str => "sample".into(),
        Signature::ObjectPath => ObjectPath::from_static_str_unchecked("/org/eddy/sample").into(),
        Signature::Variant => Variant::Variant(Box::new("sample".into())),
        Signature::Fd => Variant::Fd(Fd::Owned(null())),
        Signature::Array(element) => {
            let mut array = Array::new(element);
            array.append(sample(element)).expect("of the element's type");
            array.into()
        }
        Signature::Dict { key, value } => {
            let mut dict = Dict::new(key, value);
            dict.append(sample(key), sample(value)).expect("of the right types");
            dict.into()
        }
        Signature::Structure(fields) => body(fields.iter()).into(),
        other => panic!("no interface uses {other}"),
    }
}

fn body<'a>(signatures: impl Iterator<Item = &'a Signature>) -> Structure<'static> {
    signatures
        .fold(Structure::builder(), |builder, signature| builder.append_field(sample(signature)))
        .build()
        .expect("not empty")
}

fn of<'a>(args: &'a [Arg<'a>], direction: ArgDirection) -> Vec<&'a Signature> {
    args.iter().filter(|arg| arg.direction() == Some(direction)).map(Arg::ty).collect()
}

/// Answers one call as the interface files say, or with an error that says what they do not allow.
fn answer(call: &Message, account: &Account) -> zbus::Result<Message> {
    let header = call.header();
    let member = header.member().expect("calls have members").to_string();
    let interface = header.interface().expect("proxies send interfaces").to_string();
    let refuse = |why: String| Message::error(&header, "org.example.NotInTheFile").build(&(why,));
    let file = |name: &str| INTERFACES.iter().find(|(known, _)| *known == name).map(|(_, text)| *text);
    let note = |interface: &str, member: &str| {
        *account.lock().expect("not poisoned").entry((interface.to_owned(), member.to_owned())).or_default() += 1;
    };

    if interface == "org.freedesktop.DBus.Properties" {
        let message_body = call.body();
        let target = match member.as_str() {
            "Get" => message_body.deserialize::<(String, String)>()?.0,
            "Set" => message_body.deserialize::<(String, String, Variant<'_>)>()?.0,
            _ => message_body.deserialize::<String>()?,
        };
        let Some(text) = file(&target) else { return refuse(format!("there is no file for {target}")) };
        let node = Node::from_reader(text.as_bytes()).expect("well formed");
        let properties: Vec<_> = node.interfaces()[0].properties().collect();
        let find = |name: &str| properties.iter().find(|property| property.name().as_str() == name);
        return match member.as_str() {
            "Get" => {
                let (_, name): (String, String) = message_body.deserialize()?;
                let Some(property) = find(&name) else { return refuse(format!("no property {target}.{name}")) };
                note(&target, &format!("get {name}"));
                Message::method_return(&header).build(&(sample(property.ty()),))
            }
            "Set" => {
                let (_, name, value): (String, String, Variant<'_>) = message_body.deserialize()?;
                let Some(property) = find(&name).filter(|property| property.access().write()) else {
                    return refuse(format!("{target}.{name} cannot be set"));
                };
                if value.value_signature() != property.ty() {
                    return refuse(format!("{target}.{name} is {}", property.ty()));
                }
                note(&target, &format!("set {name}"));
                Message::method_return(&header).build(&())
            }
            _ => {
                let all: std::collections::HashMap<String, Variant<'_>> =
                    properties.iter().map(|property| (property.name().to_string(), sample(property.ty()))).collect();
                Message::method_return(&header).build(&(all,))
            }
        };
    }

    let Some(text) = file(&interface) else { return refuse(format!("there is no file for {interface}")) };
    let node = Node::from_reader(text.as_bytes()).expect("well formed");
    let Some(method) = node.interfaces()[0].methods().find(|method| method.name().as_str() == member) else {
        return refuse(format!("there is no method {interface}.{member}"));
    };
    let wanted: String = of(method.args(), ArgDirection::In).iter().map(ToString::to_string).collect();
    let given = call.body().signature().to_string_no_parens();
    if wanted != given {
        return refuse(format!("{interface}.{member} takes {wanted}, not {given}"));
    }
    note(&interface, &member);
    let reply = Message::method_return(&header);
    let results = of(method.args(), ArgDirection::Out);
    if results.is_empty() { reply.build(&()) } else { reply.build(&body(results.into_iter())) }
}

/// A client connected to an end that knows nothing but the files.
async fn connected() -> (Connection, Connection, Account) {
    let (client, server) = common::pair().await;
    let account = Account::default();
    let mut calls = MessageStream::from(&server);
    let (answering, noted) = (server.clone(), account.clone());
    tokio::spawn(async move {
        while let Some(Ok(call)) = calls.next().await {
            if call.message_type() == zbus::message::Type::MethodCall {
                let reply = answer(&call, &noted).expect("the answer fits a message");
                answering.send(&reply).await.expect("the client is still there");
            }
        }
    });
    (client, server, account)
}

/// Sends a signal of the files with sample values.
async fn emit(server: &Connection, interface: &str, signal: &str) {
    let (_, text) = INTERFACES.iter().find(|(known, _)| *known == interface).expect("has a file");
    let node = Node::from_reader(text.as_bytes()).expect("well formed");
    let found = node.interfaces()[0]
        .signals()
        .find(|known| known.name().as_str() == signal)
        .unwrap_or_else(|| panic!("{interface} has no signal {signal}"));
    let message = Message::signal("/org/eddy/test", interface, signal)
        .build(&body(found.args().iter().map(Arg::ty)))
        .expect("fits a message");
    server.send(&message).await.expect("the client is still there");
}

macro_rules! proxy {
    ($proxy:ident, $client:expr) => {
        $proxy::builder($client).path("/org/eddy/test").build().await.expect(stringify!($proxy))
    };
}

macro_rules! call {
    ($($call:expr;)*) => { $( $call.await.unwrap_or_else(|error| panic!("{}: {error}", stringify!($call))); )* };
}

#[tokio::test]
async fn every_member_of_every_file_has_its_client_and_the_reverse() {
    let (client, server, account) = connected().await;
    let client = &client;
    let file = null();
    let wav = || Fd::from(&file);
    let none = Options::default();
    let options = Options {
        model: Some("m".into()),
        seed: Some(1),
        temperature: Some(0.5),
        stream: Some(null()),
        ..Options::default()
    };

    let assistant = proxy!(AssistantProxy, client);
    call! {
        assistant.open_conversation(&none); assistant.listen(&none); assistant.stop_listening();
        assistant.interrupt(); assistant.say("x", &none); assistant.acquire_mute();
        assistant.version(); assistant.state(); assistant.state_reason(); assistant.muted();
        assistant.set_muted(true); assistant.microphone_in_use(); assistant.speaker_in_use();
    }
    let text = proxy!(TextProxy, client);
    call! { text.generate(&[("user", "x")], &options); }
    let vision = proxy!(VisionProxy, client);
    call! { vision.ask(&[wav(), wav()], "x", &none); }
    let speech = proxy!(SpeechProxy, client);
    call! { speech.transcribe(wav(), &none); speech.synthesize("x", &none); speech.converse(wav(), &options); }
    let retrieval = proxy!(RetrievalProxy, client);
    call! { retrieval.encode(&["x"], true, &none); retrieval.create_index("x", &none); retrieval.indexes(); }
    let index = proxy!(IndexProxy, client);
    call! {
        index.add(&[("1", "x")], &none); index.remove(&["1"], &none); index.search("x", 3, &none);
        index.drop_index(); index.count(); index.bytes(); index.model();
    }
    let conversation = proxy!(ConversationProxy, client);
    call! {
        conversation.ask("x", &none); conversation.ask_spoken(wav(), &none); conversation.reset();
        conversation.close(); conversation.history();
    }
    let request = proxy!(RequestProxy, client);
    call! { request.cancel(); request.state(); request.result(); }
    let models = proxy!(ModelsProxy, client);
    call! { models.pull("x/y", &none); models.memory_budget(); models.set_memory_budget(1); }
    let model = proxy!(ModelProxy, client);
    call! {
        model.load(&none); model.unload(); model.name(); model.family(); model.precision(); model.folder();
        model.license(); model.bytes(); model.state(); model.state_reason(); model.resident();
    }
    let access = proxy!(AccessProxy, client);
    call! { access.set_rule("*", "listen", "deny", &none); access.remove_rule("*", "listen"); access.rules(); }
    let daemon = proxy!(DaemonProxy, client);
    call! { daemon.reload(&none); daemon.report(); }

    let mut signals = BTreeSet::new();
    {
        let mut changes = assistant.receive_voice_state_changed().await.expect("a stream");
        emit(&server, "org.eddy.Assistant1", "StateChanged").await;
        let change = changes.next().await.expect("one");
        let args = change.args().expect("of the file's types");
        assert_eq!((args.old, args.new, args.reason), ("sample", "sample", "sample"));
        signals.insert(("org.eddy.Assistant1".to_owned(), "StateChanged".to_owned()));

        let mut deltas = request.receive_delta_signal().await.expect("a stream");
        emit(&server, "org.eddy.Request1", "Delta").await;
        let delta = deltas.next().await.expect("one");
        let args = delta.args().expect("of the file's types");
        assert_eq!(Delta::from_signal(args.kind, &args.value), Delta::Other("sample".into()));
        signals.insert(("org.eddy.Request1".to_owned(), "Delta".to_owned()));

        let mut ends = request.receive_finished().await.expect("a stream");
        emit(&server, "org.eddy.Request1", "Finished").await;
        let end = ends.next().await.expect("one");
        assert_eq!(end.args().expect("of the file's types").state, "sample");
        signals.insert(("org.eddy.Request1".to_owned(), "Finished".to_owned()));
    }

    let mut used: BTreeSet<(String, String)> = account.lock().expect("not poisoned").keys().cloned().collect();
    used.extend(signals);
    for (name, text) in INTERFACES {
        let node = Node::from_reader(text.as_bytes()).expect("well formed");
        let interface = &node.interfaces()[0];
        for method in interface.methods() {
            assert!(used.remove(&((*name).to_owned(), method.name().to_string())), "{name}.{}", method.name());
        }
        for signal in interface.signals() {
            assert!(used.remove(&((*name).to_owned(), signal.name().to_string())), "{name}.{}", signal.name());
        }
        for property in interface.properties() {
            if property.access().write() {
                assert!(used.remove(&((*name).to_owned(), format!("set {}", property.name()))), "{}", property.name());
            }
            used.remove(&((*name).to_owned(), format!("get {}", property.name())));
        }
    }
    assert!(used.is_empty(), "not in the files: {used:?}");
}

/// Reads every property twice over one proxy, and each first in a cached and then in an uncached client.
macro_rules! properties {
    ($client:expr, $account:expr, $($proxy:ident { $($property:ident),* })*) => { $( {
        let cached = proxy!($proxy, $client);
        $( for _ in 0..2 { cached.$property().await.unwrap_or_else(|error| panic!("{}: {error}", stringify!($property))); } )*
        let uncached = $proxy::builder($client)
            .path("/org/eddy/test")
            .cache_properties(zbus::proxy::CacheProperties::No)
            .build()
            .await
            .expect(stringify!($proxy));
        $( uncached.$property().await.unwrap_or_else(|error| panic!("{}: {error}", stringify!($property))); )*
    } )* };
}

#[tokio::test]
async fn clients_read_every_property_and_cache_only_what_is_announced() {
    let (client, _server, account) = connected().await;
    properties! {
        &client, account,
        AssistantProxy { version, state, state_reason, muted, microphone_in_use, speaker_in_use }
        IndexProxy { count, bytes, model }
        ConversationProxy { history }
        RequestProxy { state, result }
        ModelsProxy { memory_budget }
        ModelProxy { name, family, precision, folder, license, bytes, state, state_reason, resident }
        AccessProxy { rules }
        DaemonProxy { report }
    }
    let account = account.lock().expect("not poisoned");
    for (name, text) in INTERFACES {
        let node = Node::from_reader(text.as_bytes()).expect("well formed");
        for property in node.interfaces()[0].properties() {
            let announced = property
                .annotations()
                .iter()
                .find(|annotation| annotation.name().ends_with("EmitsChangedSignal"))
                .map_or("true", |annotation| annotation.value());
            let asked = account.get(&((*name).to_owned(), format!("get {}", property.name()))).copied().unwrap_or(0);
            // The uncached client asks once; the cached one twice more if no signal would tell it of a change.
            let expected = if announced == "false" { 3 } else { 1 };
            assert_eq!(asked, expected, "{name}.{} ({announced})", property.name());
        }
    }
}

#[tokio::test]
async fn root_clients_know_their_name_and_path() {
    let (client, _server, _) = connected().await;
    let assistant = AssistantProxy::new(&client).await.expect("built");
    assert_eq!(assistant.inner().destination().as_str(), Bus::Assistant.name());
    assert_eq!(assistant.inner().path().as_str(), Bus::Assistant.root());
    let models = ModelsProxy::new(&client).await.expect("built");
    assert_eq!(models.inner().destination().as_str(), Bus::Admin.name());
    assert_eq!(models.inner().path().as_str(), Bus::Admin.root());
}

#[tokio::test]
async fn a_result_is_read_into_its_struct() {
    let (client, _server, _) = connected().await;
    let request = proxy!(RequestProxy, &client);
    let outcome = Outcome::from_dictionary(request.result().await.expect("read")).expect("typed");
    assert_eq!(outcome, Outcome::default(), "the sample's only key is unknown, and passed over");
}
