//! Cutting a document into passages that can be found one by one.
//!
//! A passage is some paragraphs of a text, begins anew at a Markdown heading, and is cut at a sentence or a word where a
//! paragraph is too long, or longer than what a model reads of it. Every byte of text that is not blank is in exactly one passage, and in its own place.

/// A passage that has reached this many bytes is complete.
const ENOUGH: usize = 500;
/// A paragraph longer than this is cut.
const MOST: usize = 1000;

/// A piece of a document: first byte, byte behind the last, and line from 1 on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    pub begin: usize,
    pub end: usize,
    pub line: usize,
}

/// Cuts `text` into passages, in order.
pub(super) fn cut(text: &str) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    let mut open: Option<Piece> = None;
    for paragraph in paragraphs(text) {
        let heading = text[paragraph.begin..].starts_with('#');
        let full = open.is_some_and(|piece| piece.end - piece.begin >= ENOUGH || paragraph.end - piece.begin > MOST);
        if heading || full {
            pieces.extend(open.take());
        }
        match &mut open {
            Some(piece) => piece.end = paragraph.end,
            None => open = Some(paragraph),
        }
        // A paragraph that is too long by itself.
        while let Some(piece) = open.filter(|piece| piece.end - piece.begin > MOST) {
            let (head, tail) = split(text, piece, MOST);
            pieces.push(head);
            open = tail;
        }
    }
    pieces.extend(open);
    pieces
}

/// Cuts those of `pieces` further of which only a part is read; `share` says how large a part of a text that is.
///
/// # Errors
/// Those of `share`.
pub(super) fn shorten<E>(
    text: &str,
    pieces: Vec<Piece>,
    share: impl Fn(&str) -> Result<f64, E>,
) -> Result<Vec<Piece>, E> {
    let mut short = Vec::with_capacity(pieces.len());
    for piece in pieces {
        let mut rest = Some(piece);
        while let Some(piece) = rest {
            let (mut head, mut tail) = (piece, None);
            loop {
                let words = &text[head.begin..head.end];
                let share = share(words)?;
                if share >= 1.0 || words.chars().nth(1).is_none() {
                    break;
                }
                // Words differ in their tokens, so a little less than the share; always less than before.
                let most = ((words.len() as f64 * share * 0.95) as usize).clamp(1, words.len() - 1);
                (head, tail) = split(text, piece, most);
            }
            short.push(head);
            rest = tail;
        }
    }
    Ok(short)
}

/// A piece's first part, of `most` bytes at most if that is a character, and the rest of it.
fn split(text: &str, piece: Piece, most: usize) -> (Piece, Option<Piece>) {
    let at = piece.begin + break_point(&text[piece.begin..piece.end], most);
    let head = Piece { end: piece.begin + text[piece.begin..at].trim_end().len(), ..piece };
    let begin = piece.end - text[at..piece.end].trim_start().len();
    let line = piece.line + text[piece.begin..begin].matches('\n').count();
    (head, (begin < piece.end).then_some(Piece { begin, end: piece.end, line }))
}

/// Runs of lines that are not blank.
fn paragraphs(text: &str) -> Vec<Piece> {
    let mut found: Vec<Piece> = Vec::new();
    let (mut at, mut inside) = (0, false);
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let end = at + line.trim_end().len();
        if line.trim().is_empty() {
            inside = false;
        } else if let (true, Some(paragraph)) = (inside && !line.starts_with('#'), found.last_mut()) {
            paragraph.end = end;
        } else {
            let begin = at + line.len() - line.trim_start().len();
            found.push(Piece { begin, end, line: number + 1 });
            inside = true;
        }
        at += line.len();
    }
    found
}

/// Where to cut a text that is longer than `most`: behind the last sentence, or else the last word, that fits.
fn break_point(text: &str, most: usize) -> usize {
    let first = text.chars().next().map_or(0, char::len_utf8);
    let limit = text.floor_char_boundary(most).max(first);
    let head = &text[..limit];
    let sentence =
        [". ", "! ", "? ", ".\n", "!\n", "?\n", "。"].iter().filter_map(|end| head.rfind(end).map(|at| at + end.len()));
    let word = head.rfind(char::is_whitespace).map(|at| at + 1);
    sentence.max().filter(|at| *at >= most / 4).or(word.filter(|at| *at > 1)).unwrap_or(limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<&str> {
        cut(text).into_iter().map(|piece| &text[piece.begin..piece.end]).collect()
    }

    #[test]
    fn short_paragraphs_stay_together_and_headings_begin_anew() {
        assert_eq!(texts("one\ntwo\n\nthree\n\n# Head\nfour\n"), ["one\ntwo\n\nthree", "# Head\nfour"]);
        assert_eq!(texts(""), Vec::<&str>::new());
        assert_eq!(texts("\n  \n"), Vec::<&str>::new());
        let lines: Vec<usize> = cut("one\n\n# Head\nfour\n\n# More\n").iter().map(|piece| piece.line).collect();
        assert_eq!(lines, [1, 3, 6]);
    }

    #[test]
    fn long_texts_are_cut_at_sentences_and_nothing_is_lost() {
        let sentence = "The tide turns, and the boat turns with it. ";
        for text in
            [sentence.repeat(100), "é".repeat(3000), format!("{}\n\n{}", "word ".repeat(500), sentence.repeat(40))]
        {
            let pieces = cut(&text);
            assert!(pieces.len() > 2);
            let mut end = 0;
            for piece in &pieces {
                assert!(piece.begin >= end && piece.end > piece.begin && piece.end - piece.begin <= MOST);
                assert!(text[end..piece.begin].trim().is_empty(), "only blanks are left out");
                end = piece.end;
            }
            assert!(text[end..].trim().is_empty());
        }
        assert!(texts(&sentence.repeat(100)).iter().all(|piece| piece.ends_with("it.")));
    }

    /// A model that reads nine words, and characters of any length.
    #[test]
    fn what_a_model_would_not_read_is_a_passage_of_its_own() {
        let share = |text: &str| Ok::<_, ()>((9.0 / text.split_whitespace().count().max(1) as f64).min(1.0));
        let text = format!("short one\n\n# Head\n{}\nlast", "The tide turns, and the boat turns with it. ".repeat(7));
        let pieces = shorten(&text, cut(&text), share).expect("no errors");
        let words: Vec<&str> = pieces.iter().map(|piece| &text[piece.begin..piece.end]).collect();
        assert!(words.iter().all(|words| share(words) == Ok(1.0)), "{words:?}");
        let every: Vec<&str> = words.iter().flat_map(|words| words.split_whitespace()).collect();
        assert_eq!(every, text.split_whitespace().collect::<Vec<_>>());
        assert!(pieces.iter().all(|piece| piece.line == 1 + text[..piece.begin].matches('\n').count()), "{pieces:?}");
        // One that reads nothing gets characters.
        assert_eq!(shorten("é é", cut("é é"), |_| Ok::<_, ()>(0.1)).map(|pieces| pieces.len()), Ok(2));
    }
}
