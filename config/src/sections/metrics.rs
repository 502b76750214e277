//! `[metrics]`: numbers about turns and the engine, never their contents.

use std::path::PathBuf;

use crate::schema::settings;

settings! {
    /// Numbers about turns and the engine: latencies, queue lengths, bytes. Never what was said.
    pub struct Metrics("metrics") {
        /// Offer the numbers as Prometheus text on a unix socket.
        enabled: bool = false, restart;
        /// The socket. Empty: metrics.sock in Eddy's runtime folder. Only the user may connect.
        socket: PathBuf = PathBuf::new(), restart;
        /// Turns that the latency report remembers.
        turns: u32 = 256, live, (1, 65_536);
    }
}
