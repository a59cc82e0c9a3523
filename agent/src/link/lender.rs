//! Memory that streams borrow while they are busy: the table of all streams says how much, and the
//! system must have it to spare.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use protocol::resume::{Limits, Sizes, StreamId, Table};

use crate::machine;

/// With less memory than this left, nothing is lent. New sessions go on to be taken on for a while.
const LENDING_KIB: u32 = 2 * super::kept::SPARE_KIB;

/// See the [module](self).
pub(super) struct Lender {
    most: Sizes,
    table: Mutex<Table>,
}

impl Lender {
    pub(super) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            most: limits.busy,
            table: Mutex::new(Table::new(limits)),
        })
    }

    /// The table. Streams wait for it, so whoever has it must not wait for them.
    pub(super) fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl resumable::Lender for Lender {
    fn most(&self) -> Sizes {
        self.most
    }

    fn lend(&self, id: StreamId, wanted: Sizes) -> Sizes {
        let mut table = self.table();
        let held = table.take_back(id, wanted);
        if held == wanted || !table.lends() {
            return held;
        }
        // Streams ask for more once a second at most.
        let short = machine::available_kib().is_some_and(|left| left < LENDING_KIB);
        if short { held } else { table.lend(id, wanted) }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use resumable::Lender as _;

    use super::*;
    use crate::config::resume::DEFAULT;

    #[test]
    fn a_busy_stream_gets_more_and_a_program_that_only_keeps_lends_nothing() {
        let lender = Lender::new(DEFAULT);
        let id = StreamId([1; 16]);
        let admitted = lender
            .table()
            .admit(id, "ann", std::iter::empty(), Duration::ZERO);
        assert_eq!(admitted, Ok(Sizes::AGENT));
        let more = Sizes {
            replay: 512 << 10,
            ..Sizes::AGENT
        };
        assert_eq!(lender.lend(id, more), more);
        assert_eq!(lender.lend(id, Sizes::AGENT), Sizes::AGENT);
        lender.table().stop_lending();
        assert_eq!(lender.lend(id, more), Sizes::AGENT);
    }
}
