//! `eddy`, the command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    // SAFETY: the first thing that the process does, before there is any other thread.
    unsafe { eddy_models::forbid_telemetry() };
    eddyd::cli::main()
}
