//! Kinds of events. Codes ending in `I` inform, in `W` warn.

/// A kind of event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Code {
    /// What happened.
    pub event: &'static str,
    /// Short and stable, for filters.
    pub code: &'static str,
}

const fn code(event: &'static str, code: &'static str) -> Code {
    Code { event, code }
}

/// A user logged in.
pub const LOGIN: Code = code("user.login", "T1000I");
/// A login failed.
pub const LOGIN_FAILED: Code = code("user.login", "T1000W");
/// A user was made.
pub const USER_CREATED: Code = code("user.create", "T1002I");
/// A user was changed.
pub const USER_UPDATED: Code = code("user.update", "T1003I");
/// A user was removed.
pub const USER_REMOVED: Code = code("user.delete", "T1004I");
/// A new invite was made, the password is void.
pub const USER_RESET: Code = code("reset_password_token.create", "T6000I");
/// A session was opened.
pub const SESSION_START: Code = code("session.start", "T2000I");
/// A session has ended.
pub const SESSION_END: Code = code("session.end", "T2004I");
/// A session has lost its stream, and is kept.
pub const SESSION_DETACHED: Code = code("session.detach", "TS001I");
/// The client of a session came back to it.
pub const SESSION_ATTACHED: Code = code("session.attach", "TS002I");
/// A user was refused a session.
pub const SESSION_REFUSED: Code = code("session.rejected", "T1006W");
/// A certificate was not accepted.
pub const CERTIFICATE_REFUSED: Code = code("auth", "T3007W");
/// A join token was made.
pub const TOKEN_CREATED: Code = code("join_token.create", "TJT00I");
/// A join token was removed.
pub const TOKEN_REMOVED: Code = code("join_token.delete", "TJT01I");
/// A node joined.
pub const NODE_JOIN: Code = code("instance.join", "TJ001I");
/// A node could not join.
pub const NODE_JOIN_FAILED: Code = code("instance.join", "TJ001W");
/// A node's certificates were renewed.
pub const NODE_RENEWED: Code = code("cert.renew", "TJ003I");
/// Two devices use one key.
pub const NODE_CLONED: Code = code("instance.cloned", "TJ004W");
/// A node was removed.
pub const NODE_REMOVED: Code = code("node.delete", "TN001I");
/// A node was turned away.
pub const NODE_REFUSED: Code = code("node.rejected", "TN002W");
/// A user or node was shut out.
pub const LOCK_CREATED: Code = code("lock.created", "TLK00I");
/// A lock was lifted.
pub const LOCK_REMOVED: Code = code("lock.deleted", "TLK01I");
/// A resource was written with `tctl create`.
pub const RESOURCE_WRITTEN: Code = code("resource.write", "TR001I");
/// A resource was removed with `tctl rm`.
pub const RESOURCE_REMOVED: Code = code("resource.delete", "TR002I");
