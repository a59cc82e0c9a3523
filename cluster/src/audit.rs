//! The audit log: append-only events with the field names that log pipelines already know.
//!
//! Events are kept in an SQLite file of their own and also logged, one JSON line each. Whoever
//! records an event waits until it is written, so that an action is never acknowledged without its
//! trace.

pub mod code;
mod log;

use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

pub use code::Code;
pub use log::{Audit, AuditError};

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

/// A time as every part of the cluster writes it.
#[must_use]
pub fn rfc3339(time: OffsetDateTime) -> String {
    let whole = time.replace_nanosecond(0).unwrap_or(time);
    whole.format(&Rfc3339).unwrap_or_default()
}
