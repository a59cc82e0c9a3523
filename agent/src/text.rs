//! Texts that came from elsewhere, made fit for logs and terminals; and counts in words.

/// The text without characters that would move the cursor or start a new log line.
pub(crate) fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// The longest start of `text` that takes at most `most` bytes.
pub(crate) fn cut(text: &str, most: usize) -> &str {
    let end = text
        .char_indices()
        .map(|(at, c)| at + c.len_utf8())
        .take_while(|&end| end <= most)
        .last()
        .unwrap_or(0);
    text.get(..end).unwrap_or("")
}

/// `1 session`, `2 sessions`.
pub(crate) fn counted(count: usize, what: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{count} {what}{s}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_become_blanks() {
        assert_eq!(plain("a\nb\u{1b}[2Jc\u{9b}"), "a b [2Jc ");
    }

    #[test]
    fn one_is_not_many() {
        let said = [0, 1, 2].map(|count| counted(count, "session"));
        assert_eq!(said, ["0 sessions", "1 session", "2 sessions"]);
    }

    #[test]
    fn cutting_keeps_whole_characters() {
        assert_eq!(cut("abcü", 4), "abc");
        assert_eq!(cut("abcü", 5), "abcü");
        assert_eq!(cut("ü", 1), "");
    }
}
