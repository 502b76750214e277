//! `eddyd`, the daemon.

use std::process::ExitCode;

fn main() -> ExitCode {
    eddyd::service::main()
}
