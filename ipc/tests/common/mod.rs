//! Two ends of a D-Bus connection without a bus between them.

use std::os::unix::net::UnixStream;

use zbus::connection::Builder;
use zbus::{Connection, Guid};

/// A connected pair: the client's end and the other one.
pub async fn pair() -> (Connection, Connection) {
    let (one, two) = UnixStream::pair().expect("a socket pair");
    let client = Builder::unix_stream(one).p2p().build();
    let server = Builder::unix_stream(two).server(Guid::generate()).p2p().build();
    let (client, server) = tokio::join!(client, server);
    (client.expect("connected"), server.expect("connected"))
}
