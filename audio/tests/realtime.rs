//! The allocation check does check: a callback that allocates ends the process.

use std::process::Command;

use eddy_audio::realtime::{AllocDisabler, callback};

#[global_allocator]
static ALLOCATOR: AllocDisabler = AllocDisabler;

const CHILD: &str = "EDDY_TEST_ALLOCATE";

#[test]
fn a_callback_that_allocates_aborts() {
    if std::env::var_os(CHILD).is_some() {
        callback(|| drop(std::hint::black_box(vec![1u8; 64])));
        return;
    }
    let run = |allocate: bool| {
        let mut child = Command::new(std::env::current_exe().expect("this program"));
        child.args(["--exact", "a_callback_that_allocates_aborts", "--test-threads=1"]);
        if allocate {
            child.env(CHILD, "1");
        } else {
            child.arg("--list");
        }
        child.output().expect("it runs").status
    };
    assert!(run(false).success());
    assert!(!run(true).success(), "an allocation in a callback went unnoticed");
}
