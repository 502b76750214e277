//! Tool calls: what is read can be written and read again.

use eddy_models::chat::tools::{read_calls, read_cut_reply, read_reply, write_calls};

use super::{Target, words};

/// See the module.
pub struct ToolCalls;

impl Target for ToolCalls {
    fn run(&mut self, input: &[u8]) -> String {
        let text = String::from_utf8_lossy(input);
        let cut = read_cut_reply(&text);
        let reply = match read_reply(&text) {
            Ok(reply) => {
                assert_eq!(reply, cut, "a reply that is whole was cut off nowhere");
                format!("{} calls in a reply", reply.calls.len().min(3))
            }
            Err(error) => error.to_string(),
        };
        match read_calls(&text) {
            Ok(calls) => {
                let written = write_calls(&calls);
                let again = read_calls(&written);
                assert!(
                    again.as_ref().is_ok_and(|again| *again == calls),
                    "{calls:?} became {written}, read as {again:?}"
                );
                format!("{} calls; {reply}", calls.len().min(3))
            }
            Err(error) => format!("{error}; {reply}"),
        }
    }

    fn dictionary(&self) -> Vec<Vec<u8>> {
        words(&[
            "<|tool_call_start|>",
            "<|tool_call_end|>",
            "[",
            "]",
            "(",
            ")",
            "{",
            "}",
            ", ",
            "=",
            ": ",
            "True",
            "False",
            "None",
            "true",
            "null",
            "f(a=1)",
            "'",
            "\"",
            "\\u",
            "\\x41",
            "\\N{",
            "1e999",
            "-0",
            "0x1f",
            "1_000",
            "\u{feff}",
            "{\"name\": \"f\", \"arguments\": {}}",
            "'''",
            "b''",
            "inf",
            "nan",
            "\\\n",
        ])
    }
}
