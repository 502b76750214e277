//! How long a caller waits for a property: round trips of `Get` on a private bus, one after the other, while the engine is
//! idle and while another caller's answers keep it busy. Built in release: `make bench-bus`.

use std::time::Instant;

use eddy_ipc::client::TextProxy;
use eddy_ipc::{Bus, Options, Token, interface};
use eddy_tests::bus::{Daemon, Listening, models};
use zbus::fdo::PropertiesProxy;
use zbus::names::InterfaceName;

/// Reads in one measurement.
const READS: usize = 5_000;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let daemon = Daemon::start_with(&models(), &["models.text=text-a", "log.level=info"], |_| {});
    let reader = daemon.client().await;
    tell("idle", &reads(&reader).await);

    let client = daemon.client().await;
    let busy = async {
        let text = TextProxy::new(&client).await.expect("a proxy");
        loop {
            let listening = Listening::to(&client, "busy").await;
            let options = Options { max_tokens: Some(64), handle_token: Token::new("busy").ok(), ..Options::default() };
            text.generate(&[("user", "tell me more")], &options).await.expect("a request");
            listening.end().await;
        }
    };
    tokio::select! {
        times = reads(&reader) => tell("busy", &times),
        () = busy => {}
    }
}

/// Microseconds of each read, sorted.
async fn reads(client: &zbus::Connection) -> Vec<u128> {
    let bus = Bus::Assistant;
    let builder = PropertiesProxy::builder(client).destination(bus.name()).path(bus.root());
    let properties = builder.build().await.expect("a proxy");
    let interface = InterfaceName::from_static_str(interface::ASSISTANT).expect("a valid name");
    let mut times = Vec::with_capacity(READS);
    for _ in 0..READS {
        let begun = Instant::now();
        properties.get(interface.clone(), "State").await.expect("the property");
        times.push(begun.elapsed().as_micros());
    }
    times.sort_unstable();
    times
}

fn tell(engine: &str, times: &[u128]) {
    let at = |share: usize| times[(times.len() * share / 100).min(times.len() - 1)];
    println!("engine {engine}: p50 {} us, p95 {} us, p99 {} us of {} reads", at(50), at(95), at(99), times.len());
}
