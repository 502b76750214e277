//! Stop strings, found in text that comes in pieces.

/// Watches a growing text for the first of several strings.
#[derive(Debug, Clone)]
pub(super) struct StopStrings {
    strings: Vec<String>,
    /// Text that may yet turn out to be the start of a stop string.
    held: String,
}

/// What is left of a piece of text after the watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Watched {
    /// Text that is surely in front of any stop string.
    pub text: String,
    /// Whether a stop string has been reached; it and what follows are left out.
    pub stopped: bool,
}

impl StopStrings {
    /// Watches for `strings`; empty ones are ignored.
    pub fn new(strings: &[String]) -> Self {
        Self { strings: strings.iter().filter(|string| !string.is_empty()).cloned().collect(), held: String::new() }
    }

    /// Adds a piece of text.
    pub fn push(&mut self, piece: &str) -> Watched {
        self.held.push_str(piece);
        let found = self.strings.iter().filter_map(|string| self.held.find(string.as_str())).min();
        if let Some(at) = found {
            self.held.truncate(at);
            return Watched { text: std::mem::take(&mut self.held), stopped: true };
        }
        let keep = self.strings.iter().map(|string| overlap(&self.held, string)).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - keep);
        Watched { text: std::mem::replace(&mut self.held, rest), stopped: false }
    }

    /// Text that was held back and is no stop string after all.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

/// Bytes at the end of `text` that are the start of `string`.
fn overlap(text: &str, string: &str) -> usize {
    let starts = string.char_indices().map(|(at, _)| at).chain([string.len()]);
    starts.filter(|length| text.ends_with(&string[..*length])).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(strings: &[&str], pieces: &[&str]) -> (String, bool) {
        let mut stops = StopStrings::new(&strings.iter().map(ToString::to_string).collect::<Vec<_>>());
        let mut shown = String::new();
        for piece in pieces {
            let watched = stops.push(piece);
            shown.push_str(&watched.text);
            if watched.stopped {
                return (shown, true);
            }
        }
        shown.push_str(&stops.finish());
        (shown, false)
    }

    #[test]
    fn a_stop_string_is_found_across_pieces() {
        assert_eq!(watch(&["END"], &["one E", "N", "D two"]), ("one ".into(), true));
        assert_eq!(watch(&["END"], &["one E", "N", "d"]), ("one ENd".into(), false));
        assert_eq!(watch(&["b", "ab"], &["xa", "b"]), ("x".into(), true));
        assert_eq!(watch(&["é!"], &["caf", "é", "?"]), ("café?".into(), false));
        assert_eq!(watch(&[""], &["text"]), ("text".into(), false));
        assert_eq!(watch(&["aab"], &["a", "a", "a", "b"]), ("a".into(), true));
    }
}
