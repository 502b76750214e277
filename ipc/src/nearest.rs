//! The known word nearest to a misspelt one, for error messages.
//!
//! eddy-config does the same for keys. It is not used from there, because every application that talks to
//! Eddy would then build a TOML parser.

/// The candidate reached with the fewest edits, if those are no more than a third of the word (two at
/// least).
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let most = (word.chars().count() / 3).max(2);
    candidates
        .into_iter()
        .map(|candidate| (edits(word, candidate), candidate))
        .filter(|(count, _)| *count <= most)
        .min_by_key(|(count, _)| *count)
        .map(|(_, candidate)| candidate)
}

fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn slips_are_found_and_strangers_are_not() {
        let known = ["max_tokens", "top_k", "seed"];
        for (word, expected) in
            [("max_token", Some("max_tokens")), ("topk", Some("top_k")), ("sead", Some("seed")), ("colour", None)]
        {
            assert_eq!(nearest(word, known), expected, "{word}");
        }
    }
}
