//! `eddyd`, the daemon.

use std::process::ExitCode;

fn main() -> ExitCode {
    // SAFETY: the first thing that the process does, before there is any other thread.
    unsafe { eddy_models::forbid_telemetry() };
    eddyd::service::main()
}
