//! `eddy`, the command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    eddyd::cli::main()
}
