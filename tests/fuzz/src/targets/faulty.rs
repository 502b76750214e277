//! Every fault that counts as a finding, on demand.

use super::Target;

/// See the module.
pub struct Faulty;

impl Target for Faulty {
    fn run(&mut self, input: &[u8]) -> String {
        match input {
            b"panic" => panic!("as asked"),
            b"hang" => loop {
                std::hint::black_box(());
            },
            b"memory" => drop(std::hint::black_box(vec![1_u8; 33 << 20])),
            b"overflow" => drop(deep(0)),
            _ => {}
        }
        "nothing".into()
    }
}

#[expect(unconditional_recursion, reason = "that is the fault")]
fn deep(at: u64) -> Vec<u64> {
    let mut all = deep(std::hint::black_box(at + 1));
    all.push(at);
    all
}
