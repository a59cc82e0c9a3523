//! The only place that prints.
//!
//! Results go to standard output, everything said about them to standard error, so that a pipe
//! carries results only. A reader that has gone away is not an error: the text is dropped.
//!
//! Names, labels and sentences come from devices and from the proxy. [`plain`] takes the control
//! characters out of them, so that a device cannot drive the user's terminal.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::ValueEnum;
use serde::Serialize;

pub(crate) mod age;
pub(crate) mod table;

static DEBUG: AtomicBool = AtomicBool::new(false);
static QUIET: AtomicBool = AtomicBool::new(false);

/// How a result is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// JSON, for programs.
    Json,
    /// YAML, for people and programs.
    Yaml,
}

/// Shows [`debug`] notes from now on.
pub(crate) fn show_debug() {
    DEBUG.store(true, Ordering::Relaxed);
}

/// Hides notes and warnings from now on.
pub(crate) fn hide_notes() {
    QUIET.store(true, Ordering::Relaxed);
}

/// A result: one or more lines, without the last newline.
pub(crate) fn result(text: &str) {
    let mut out = std::io::stdout().lock();
    // A closed pipe (`tsh ls | head -1`) has read what it wanted.
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// A result for programs.
pub(crate) fn structured<T: Serialize>(format: Format, value: &T) -> anyhow::Result<()> {
    result(&rendered(format, value)?);
    Ok(())
}

fn rendered<T: Serialize>(format: Format, value: &T) -> anyhow::Result<String> {
    Ok(match format {
        Format::Yaml => serde_norway::to_string(value)?.trim_end().to_owned(),
        Format::Json | Format::Text => plain_json(&serde_json::to_string_pretty(value)?),
    })
}

/// Something the user should know.
pub(crate) fn note(text: &str) {
    if !QUIET.load(Ordering::Relaxed) {
        say(text);
    }
}

/// Something that did not work, but does not stop the command.
pub(crate) fn warn(text: &str) {
    note(&format!("tsh: warning: {text}"));
}

/// Something for whoever looks into a problem; shown with `--debug`.
pub(crate) fn debug(text: impl FnOnce() -> String) {
    if DEBUG.load(Ordering::Relaxed) {
        say(&format!("tsh: debug: {}", text()));
    }
}

/// Why the command failed.
pub(crate) fn error(error: &anyhow::Error) {
    say(&format!("tsh: {error:#}"));
}

/// Text for a raw terminal, as it is.
pub(crate) fn to_terminal(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

/// The same on the terminal that shows the results, behind what is there.
pub(crate) fn to_screen(bytes: &[u8]) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(bytes).and_then(|()| out.flush());
}

fn say(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{}", plain_lines(text));
}

/// The text without control characters.
pub(crate) fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

fn plain_lines(text: &str) -> String {
    text.chars()
        .filter(|&c| c != '\r')
        .map(|c| {
            if c.is_control() && c != '\n' {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}

/// JSON that says the same. Its writer escapes control characters below the space alone; all others
/// stand within strings, where they may be escaped, too (RFC 8259 §7).
fn plain_json(json: &str) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(plain("a\x1b[31mb\n"), "a\u{fffd}[31mb\u{fffd}");
        assert_eq!(plain_lines("one\r\ntwo\x07"), "one\ntwo\u{fffd}");
    }

    #[test]
    fn yaml_and_json_hold_the_same() {
        let value = std::collections::BTreeMap::from([("name", "gateway-1")]);
        assert_eq!(rendered(Format::Yaml, &value).unwrap(), "name: gateway-1");
        let json = rendered(Format::Json, &value).unwrap();
        let read: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(read["name"], "gateway-1");
    }

    #[test]
    fn programs_read_what_was_said_and_terminals_are_not_driven() {
        let value = serde_json::json!({ "kernel": "6.1\u{9b}31m\u{7f}\u{1b}[0m\n" });
        for format in [Format::Json, Format::Yaml] {
            let text = rendered(format, &value).unwrap();
            assert!(
                !text.chars().any(|c| c.is_control() && c != '\n'),
                "{text:?}"
            );
            // JSON is YAML.
            let read: serde_json::Value = serde_norway::from_str(&text).unwrap();
            assert_eq!(read, value);
        }
    }
}
