//! Text from devices and strangers, as it may reach somebody's terminal: without the control
//! characters that drive one, those of a single byte above ASCII (C1) and DEL included.

/// One line of it.
#[must_use]
pub fn plain(text: &str) -> String {
    let shown = |c: char| if c.is_control() { REPLACEMENT } else { c };
    text.chars().map(shown).collect()
}

/// Several lines of it.
#[must_use]
pub fn plain_lines(text: &str) -> String {
    let shown = |c: char| match c {
        '\n' => c,
        c if c.is_control() => REPLACEMENT,
        c => c,
    };
    text.chars().map(shown).collect()
}

/// JSON that says the same. Its writer escapes those below the space alone; all others stand within
/// strings, where they may be escaped, too (RFC 8259 §7).
#[must_use]
pub fn plain_json(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '\n' => out.push(c),
            c if c.is_control() => out += &format!("\\u{:04x}", u32::from(c)),
            c => out.push(c),
        }
    }
    out
}

/// Shown in place of what is not.
const REPLACEMENT: char = char::REPLACEMENT_CHARACTER;

#[cfg(test)]
mod tests {
    use super::*;

    /// Red, by ESC and by the single character CSI, then DEL.
    const DRIVES: &str = "a\x1b[31mb\u{9b}31mc\x7f";

    #[test]
    fn what_drives_a_terminal_is_replaced() {
        assert_eq!(plain(DRIVES), "a\u{fffd}[31mb\u{fffd}31mc\u{fffd}");
        assert_eq!(plain("one\ntwo"), "one\u{fffd}two");
        assert_eq!(plain_lines("one\r\ntwo\x07"), "one\u{fffd}\ntwo\u{fffd}");
        assert_eq!(plain("Düsseldorf, 東京"), "Düsseldorf, 東京");
    }

    #[test]
    fn json_says_the_same_in_printable_characters() {
        let value = serde_json::json!({ "kernel": DRIVES, "other": ["ü", "\n"] });
        for json in [
            value.to_string(),
            serde_json::to_string_pretty(&value).unwrap(),
        ] {
            let plain = plain_json(&json);
            assert!(
                !plain.chars().any(|c| c.is_control() && c != '\n'),
                "{plain:?}"
            );
            let read: serde_json::Value = serde_json::from_str(&plain).unwrap();
            assert_eq!(read, value);
        }
    }
}
