//! What errors quote of a record or of a schema.
//!
//! Invariant: an excerpt is short and has no control characters, whatever was in the record. A field
//! may claim megabytes, and errors are logged and kept.

/// Most characters of the text that are shown.
const MAX_CHARS: usize = 200;

/// The beginning of `text`, fit to be shown.
pub(crate) fn excerpt(text: &str) -> String {
    let end = text
        .char_indices()
        .nth(MAX_CHARS)
        .map_or(text.len(), |(end, _)| end);
    let (shown, rest) = text.split_at(end);
    let mut excerpt = String::with_capacity(shown.len());
    for char in shown.chars() {
        if char.is_control() {
            excerpt.extend(char.escape_default());
        } else {
            excerpt.push(char);
        }
    }
    if !rest.is_empty() {
        excerpt += "…";
    }
    excerpt
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_text_is_shown_whole() {
        assert_eq!(excerpt("자전거 \"x\""), "자전거 \"x\"");
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        assert_eq!(excerpt(&"가".repeat(MAX_CHARS)), "가".repeat(MAX_CHARS));
        assert_eq!(excerpt(&"가".repeat(MAX_CHARS + 1)), "가".repeat(MAX_CHARS) + "…");
    }

    #[test]
    fn a_text_cannot_begin_a_line_of_its_own() {
        assert_eq!(excerpt("a\n\u{1b}[31mb"), r"a\n\u{1b}[31mb");
    }
}
