//! The audit log: append-only events with the field names that log pipelines already know.
//!
//! Events are kept in an SQLite file of their own and also logged, one JSON line each. Whoever
//! records an event waits until it is written. While the file cannot be written, nobody is logged in
//! or connected to a node ([`Audit::require`]); what an administrator does and what has happened
//! already is in the log only ([`Audit::record`]). What strangers are refused is written down briefly,
//! and only so much of it ([`Audit::refused`]).

pub mod code;
mod log;
mod refusals;

use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

pub use code::Code;
pub use log::{Audit, AuditError, Unwritten};

/// Longest name of a stranger's choice that is written down whole, in bytes.
const LONGEST_NAME: usize = 128;
/// The same of a sentence that may quote one.
const LONGEST_SENTENCE: usize = 256;

/// One event, before it gets its time and uid.
#[derive(Debug, Clone)]
pub struct Event {
    code: Code,
    fields: Map<String, Value>,
}

impl Event {
    /// An event of this kind.
    #[must_use]
    pub fn new(code: Code) -> Self {
        Self {
            code,
            fields: Map::new(),
        }
    }

    /// Adds a field.
    #[must_use]
    pub fn field(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.fields.insert(name.into(), value.into());
        self
    }

    /// Names the Tether user.
    #[must_use]
    pub fn user(self, name: &str) -> Self {
        self.field("user", name)
    }

    /// Names the node.
    #[must_use]
    pub fn server(self, id: &str, hostname: &str) -> Self {
        self.field("server_id", id)
            .field("server_hostname", hostname)
    }

    /// The event with what strangers could make long cut short.
    #[must_use]
    pub fn brief(mut self) -> Self {
        for (name, value) in &mut self.fields {
            let longest = match name.as_str() {
                "error" | "reason" => LONGEST_SENTENCE,
                _ => LONGEST_NAME,
            };
            if let Value::String(text) = value {
                cut(text, longest);
            }
        }
        self
    }

    /// The event as it is written.
    fn seal(self, uid: &str, now: OffsetDateTime) -> Value {
        let mut event = Map::new();
        event.insert("event".into(), self.code.event.into());
        event.insert("code".into(), self.code.code.into());
        event.insert("uid".into(), uid.into());
        event.insert("time".into(), rfc3339(now).into());
        event.extend(self.fields);
        Value::Object(event)
    }
}

fn cut(text: &mut String, longest: usize) {
    if text.len() > longest {
        text.truncate(text.floor_char_boundary(longest));
        text.push('…');
    }
}

/// A time as every part of the cluster writes it.
#[must_use]
pub fn rfc3339(time: OffsetDateTime) -> String {
    let whole = time.replace_nanosecond(0).unwrap_or(time);
    whole.format(&Rfc3339).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_stranger_made_long_is_cut_between_characters() {
        let long = "ä".repeat(1000);
        let event = Event::new(code::LOGIN_FAILED).user(&long);
        let event = event.field("error", long.as_str()).field("tx", 7).brief();
        let sealed = event.seal("uid", OffsetDateTime::UNIX_EPOCH);
        let cut = |bytes: usize| Value::from("ä".repeat(bytes / 2) + "…");
        assert_eq!(sealed.get("user"), Some(&cut(LONGEST_NAME)));
        assert_eq!(sealed.get("error"), Some(&cut(LONGEST_SENTENCE)));
        let event = Event::new(code::LOGIN_FAILED).user(&"ä".repeat(64)).brief();
        let sealed = event.seal("uid", OffsetDateTime::UNIX_EPOCH);
        assert_eq!(sealed.get("user"), Some(&"ä".repeat(64).into()));
    }
}
