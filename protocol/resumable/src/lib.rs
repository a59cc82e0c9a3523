//! Streams that outlive what carries them: the machine of [`protocol::resume`] between an
//! application and the connections of the moment, over tokio.
//!
//! An application holds a [`Resumable`], and reads and writes it like any stream. Whoever reads or
//! writes also moves what is there to move, so bytes pass through no task of this crate on their
//! way. The [driver](Driver) does what is left: it keeps the time, and moves what comes while the
//! application does something else.
//!
//! | module | holds |
//! | --- | --- |
//! | [`agent`] | the end that is dialled |
//! | [`client`] | the end that dials, and dials again |
//! | [`status`] | what both tell of themselves |
//! | [`Handle`] | a hold on a stream beside its application's |
//! | [`Pool`] | memory that busy streams may borrow |
//! | `core` | an end and its attachments |
//! | `end` | the machine at either end |
//! | `signal` | who is woken |
//! | `stream` | what the application reads and writes |

pub mod agent;
mod attachment;
pub mod client;
mod core;
mod driver;
mod end;
mod handle;
mod mac;
mod pool;
mod random;
mod signal;
pub mod status;
mod stream;
mod words;

#[cfg(test)]
mod tests;

pub use crate::core::{Carrier, Reader, Writer};
pub use driver::Driver;
pub use end::End;
pub use handle::Handle;
pub use pool::{Borrower, Lender, Pool};
pub use status::Status;
pub use stream::Resumable;
