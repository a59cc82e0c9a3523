//! How many files the process may have open. Every connection over TCP is one.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Strangers over TCP take up to 2,048, and 1,024 more over bare SSH ([`crate::proxy::limits`]). The rest is for
/// agents and people over TCP; over QUIC they all share one.
const WANTED: u64 = 8192;

/// Asks for as many as the system allows, and says so if these are few. Many systems begin with
/// 1,024, which programs that know no better than `select` need.
pub fn raise() {
    match raised() {
        Ok(limit) if limit < WANTED => tracing::warn!(
            limit,
            wanted = WANTED,
            "few files may be open: connections over TCP may fail; raise the limit (LimitNOFILE, ulimit -Hn)"
        ),
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "the limit of open files stays as it is"),
    }
}

fn raised() -> nix::Result<u64> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(hard)
}
