//! Memory that busy streams may borrow: who lends it, and a lender for the streams of one process
//! that trust each other with it. Whoever comes first gets it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use protocol::resume::{Sizes, StreamId};

/// Whoever has memory to spare for streams that are busy.
pub trait Lender: Send + Sync {
    /// The most that one stream may hold; more is not asked for.
    fn most(&self) -> Sizes;

    /// A stream would like to hold so much, or holds no more than that any longer. Tells what it may
    /// hold. Called while the stream is locked: this must not touch it.
    fn lend(&self, id: StreamId, wanted: Sizes) -> Sizes;
}

/// For whoever comes first; see the [module](self).
#[derive(Debug)]
pub struct Pool {
    promised: Sizes,
    most: Sizes,
    books: Mutex<Books>,
}

#[derive(Debug)]
struct Books {
    left: u32,
    /// What is lent.
    loans: HashMap<StreamId, u32>,
}

/// A stream that borrows. Gives back what it was lent when it is dropped.
#[derive(Debug)]
pub struct Borrower {
    pool: Arc<Pool>,
    id: StreamId,
}

impl Pool {
    /// So many bytes for streams that hold what was promised without it, and are to hold so much at
    /// most.
    #[must_use]
    pub fn new(bytes: u32, promised: Sizes, most: Sizes) -> Self {
        let loans = HashMap::new();
        Self {
            promised,
            most,
            books: Mutex::new(Books { left: bytes, loans }),
        }
    }

    /// Has a stream give back what it is lent when it is over.
    #[must_use]
    pub fn borrower(self: &Arc<Self>, id: StreamId) -> Borrower {
        let pool = Arc::clone(self);
        Borrower { pool, id }
    }

    /// Bytes that are not lent.
    #[cfg(test)]
    pub(crate) fn left(&self) -> u32 {
        self.books().left
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lender for Pool {
    fn most(&self) -> Sizes {
        self.most
    }

    /// All of it, or nothing.
    fn lend(&self, id: StreamId, wanted: Sizes) -> Sizes {
        let loan = wanted.total().saturating_sub(self.promised.total());
        let mut books = self.books();
        let before = books.loans.get(&id).copied().unwrap_or(0);
        let free = books.left.saturating_add(before);
        let Some(left) = free.checked_sub(loan) else {
            return Sizes::LEAST;
        };
        books.left = left;
        if loan > 0 {
            books.loans.insert(id, loan);
        } else {
            books.loans.remove(&id);
        }
        wanted
    }
}

impl Drop for Borrower {
    fn drop(&mut self) {
        let mut books = self.pool.books();
        let loan = books.loans.remove(&self.id).unwrap_or(0);
        books.left = books.left.saturating_add(loan);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: u32 = 1024;

    const fn kib(replay: u32, window: u32) -> Sizes {
        Sizes {
            replay: replay * KIB,
            window: window * KIB,
        }
    }

    #[test]
    fn what_is_lent_comes_back_when_it_is_given_back_or_its_stream_is_over() {
        let pool = Arc::new(Pool::new(1000 * KIB, kib(256, 256), kib(1024, 1024)));
        let [one, two] = [1, 2].map(|n| StreamId([n; 16]));
        let borrower = pool.borrower(one);
        assert_eq!(pool.lend(one, kib(512, 256)), kib(512, 256));
        assert_eq!(pool.lend(one, kib(1024, 256)), kib(1024, 256));
        assert_eq!(pool.lend(two, kib(512, 256)), Sizes::LEAST);
        assert_eq!(pool.lend(one, kib(256, 300)), kib(256, 300));
        assert_eq!(pool.lend(two, kib(1024, 256)), kib(1024, 256));
        assert_eq!(pool.lend(one, kib(512, 300)), Sizes::LEAST);
        assert_eq!(pool.lend(one, kib(256, 400)), kib(256, 400));
        drop(borrower);
        assert_eq!(pool.left(), 232 * KIB);
        pool.lend(two, kib(256, 256));
        assert_eq!(pool.left(), 1000 * KIB);
        assert!(pool.books().loans.is_empty());
    }
}
