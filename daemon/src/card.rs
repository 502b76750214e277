//! What a model's card says of it to Eddy: lines in the front matter of its `README.md`.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use eddy_ipc::SpeakerVoice;

/// Front matter is at the beginning; the rest of a card may be a book.
const MOST_BYTES: u64 = 16 << 10;

/// What the model cannot do, in a sentence.
#[must_use]
pub fn limits(folder: &Path) -> Option<String> {
    line(folder, "limits")
}

/// The voice that the model reads aloud in unless another is asked for. Published models have four and name none.
#[must_use]
pub fn voice(folder: &Path) -> SpeakerVoice {
    let named = line(folder, "voice");
    named.and_then(|word| SpeakerVoice::from_word(&word)).unwrap_or(SpeakerVoice::UkFemale)
}

fn line(folder: &Path, key: &str) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(folder.join("README.md")).ok()?.take(MOST_BYTES).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let matter = text.strip_prefix("---")?.split("\n---").next()?;
    let value = matter.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    Some(value.trim().trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn front_matter_is_read_and_nothing_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |text: &str| std::fs::write(folder.path().join("README.md"), text).expect("written");
        assert_eq!(voice(folder.path()), SpeakerVoice::UkFemale);
        write("---\nvoice: us-male\nlimits: \"small talk\"\n---\nvoice: uk-male\n");
        assert_eq!((voice(folder.path()), limits(folder.path())), (SpeakerVoice::UsMale, Some("small talk".into())));
        write("# A model\nvoice: us-male\n");
        assert_eq!((voice(folder.path()), limits(folder.path())), (SpeakerVoice::UkFemale, None));
    }
}
