//! JSON (RFC 8259) and YAML 1.2, written by hand: a tree of values is all that is needed.

use std::fmt::Write;

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Number(u64),
    Text(String),
    List(Vec<Self>),
    Map(Vec<(&'static str, Self)>),
}

impl Value {
    pub(super) fn text(text: impl ToString) -> Self {
        Self::Text(text.to_string())
    }

    /// Null stands for what is not there.
    pub(super) fn maybe<T>(value: Option<T>, make: impl FnOnce(T) -> Self) -> Self {
        value.map_or(Self::Null, make)
    }

    /// One line.
    pub(super) fn json(&self) -> String {
        let mut out = String::new();
        self.write_json(&mut out);
        out.push('\n');
        out
    }

    /// Block style.
    pub(super) fn yaml(&self) -> String {
        let mut out = String::new();
        self.write_yaml(&mut out, 0);
        out
    }

    fn write_json(&self, out: &mut String) {
        match self {
            Self::List(items) => {
                list(out, ['[', ']'], items, |out, item| item.write_json(out));
            }
            Self::Map(entries) => list(out, ['{', '}'], entries, |out, (key, value)| {
                quote(out, key);
                out.push(':');
                value.write_json(out);
            }),
            scalar => scalar.write_scalar(out),
        }
    }

    fn write_yaml(&self, out: &mut String, depth: usize) {
        match self {
            Self::Map(entries) => {
                for (key, value) in entries {
                    indent(out, depth);
                    out.push_str(key);
                    out.push(':');
                    value.write_yaml_behind(out, depth);
                }
            }
            Self::List(items) => {
                for item in items {
                    indent(out, depth);
                    out.push('-');
                    item.write_yaml_behind(out, depth);
                }
            }
            scalar => scalar.write_scalar(out),
        }
    }

    fn write_yaml_behind(&self, out: &mut String, depth: usize) {
        match self {
            Self::List(items) if items.is_empty() => out.push_str(" []\n"),
            Self::Map(entries) if entries.is_empty() => out.push_str(" {}\n"),
            Self::List(_) | Self::Map(_) => {
                out.push('\n');
                self.write_yaml(out, depth + 1);
            }
            scalar => {
                out.push(' ');
                scalar.write_scalar(out);
                out.push('\n');
            }
        }
    }

    fn write_scalar(&self, out: &mut String) {
        match self {
            Self::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::Number(value) => out.push_str(&value.to_string()),
            Self::Text(text) => quote(out, text),
            _ => out.push_str("null"),
        }
    }
}

fn list<T>(out: &mut String, around: [char; 2], items: &[T], write: impl Fn(&mut String, &T)) {
    let [open, close] = around;
    out.push(open);
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        write(out, item);
    }
    out.push(close);
}

fn indent(out: &mut String, depth: usize) {
    out.extend(std::iter::repeat_n("  ", depth));
}

/// A JSON string is a YAML double-quoted scalar, too, once everything is escaped that one of the
/// two forbids, or that YAML would take for a line break.
fn quote(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') => {
                // Writing to a string cannot fail.
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quoted(text: &str) -> String {
        Value::text(text).json()
    }

    #[test]
    fn texts_are_escaped() {
        for (text, json) in [
            ("plain", r#""plain""#),
            (r#"say "hi" \ bye"#, r#""say \"hi\" \\ bye""#),
            ("a\nb\r\tc", r#""a\nb\r\tc""#),
            ("\u{0}\u{1b}\u{7f}\u{9b}", r#""\u0000\u001b\u007f\u009b""#),
            ("\u{2028}\u{feff}", r#""\u2028\ufeff""#),
            ("Köln 東京 🚜", "\"Köln 東京 🚜\""),
            ("</script> #x: - y", r#""</script> #x: - y""#),
        ] {
            assert_eq!(quoted(text), format!("{json}\n"));
        }
    }

    fn tree() -> Value {
        Value::Map(vec![
            ("name", Value::text("a: b")),
            ("none", Value::Null),
            (
                "map",
                Value::Map(vec![("n", Value::Number(7)), ("yes", Value::Bool(true))]),
            ),
            (
                "list",
                Value::List(vec![Value::text("x"), Value::text("y")]),
            ),
            ("empty", Value::List(Vec::new())),
            ("bare", Value::Map(Vec::new())),
        ])
    }

    #[test]
    fn json_is_one_line() {
        let json = r#"{"name":"a: b","none":null,"map":{"n":7,"yes":true},"list":["x","y"],"empty":[],"bare":{}}"#;
        assert_eq!(tree().json(), format!("{json}\n"));
    }

    #[test]
    fn yaml_is_indented() {
        let yaml = "name: \"a: b\"\nnone: null\nmap:\n  n: 7\n  yes: true\nlist:\n  - \"x\"\n  - \"y\"\nempty: []\nbare: {}\n";
        assert_eq!(tree().yaml(), yaml);
    }
}
