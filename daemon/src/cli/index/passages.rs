//! Cutting a document into passages that can be found one by one.
//!
//! A passage is some paragraphs of a text, begins anew at a Markdown heading, and is cut at a sentence or a word where a
//! paragraph is too long. Every byte of text that is not blank is in exactly one passage, and in its own place.

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
            let at = piece.begin + break_point(&text[piece.begin..piece.end]);
            let head = Piece { end: piece.begin + text[piece.begin..at].trim_end().len(), ..piece };
            let blank = text[at..piece.end].len() - text[at..piece.end].trim_start().len();
            let line = piece.line + text[piece.begin..at + blank].matches('\n').count();
            pieces.push(head);
            open = Some(Piece { begin: at + blank, end: piece.end, line });
        }
    }
    pieces.extend(open);
    pieces
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

/// Where to cut a text that is longer than [`MOST`]: behind the last sentence, or else the last word, that fits.
fn break_point(text: &str) -> usize {
    let mut limit = MOST;
    while !text.is_char_boundary(limit) {
        limit -= 1;
    }
    let head = &text[..limit];
    let sentence =
        [". ", "! ", "? ", ".\n", "!\n", "?\n", "。"].iter().filter_map(|end| head.rfind(end).map(|at| at + end.len()));
    let word = head.rfind(char::is_whitespace).map(|at| at + 1);
    sentence.max().filter(|at| *at >= MOST / 4).or(word.filter(|at| *at > 1)).unwrap_or(limit)
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
}
