//! Places, memory, loans and tries.

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use super::*;

const LIMITS: Limits = Limits {
    streams: 8,
    per_user: 4,
    memory: 1 << 20,
    sizes: Sizes::AGENT,
    busy: Sizes::BUSY,
    spare: 2 << 20,
};

const NONE: core::iter::Empty<(&str, u32)> = core::iter::empty();

const fn id(n: u8) -> StreamId {
    StreamId([n; 16])
}

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn a_few_streams_fit_into_a_small_device_and_more_are_refused_when_memory_is_short() {
    let mut table = Table::new(LIMITS);
    let mut granted = vec![];
    let refused = loop {
        let n = u8::try_from(granted.len()).unwrap();
        match table.admit(id(n), &format!("user {n}"), NONE, s(0)) {
            Ok(sizes) => granted.push(sizes.total() / 1024),
            Err(reason) => break reason,
        }
    };
    assert_eq!(
        (refused, &granted[..]),
        (Reason::Memory, &[256, 256, 256, 128, 128][..])
    );
    assert!(table.reserved() <= LIMITS.memory);
    table.remove(id(0));
    let sizes = table.admit(id(9), "ann", NONE, s(0)).unwrap();
    assert_eq!(sizes.total(), 128 * 1024);
    table.set_memory(0);
    assert_eq!(table.admit(id(10), "ann", NONE, s(0)), Err(Reason::Memory));
    assert_eq!(table.len(), 5, "those that there are go on");
}

#[test]
fn a_user_gets_half_of_the_memory_at_most_wherever_the_streams_are() {
    let mut limits = LIMITS;
    limits.memory = 2 << 20;
    let mut table = Table::new(limits);
    let mut all_of = |user: &str, first: u8| {
        let granted = (first..).map_while(|n| table.admit(id(n), user, NONE, s(0)).ok());
        granted
            .map(|sizes| sizes.total() / 1024)
            .collect::<Vec<_>>()
    };
    assert_eq!(all_of("ann", 0), [512, 256, 128, 128]);
    assert_eq!(all_of("bob", 10), [512, 256, 128, 128]);
    let mut table = Table::new(limits);
    let elsewhere = || [("ann", 896 * 1024)].into_iter();
    let last = table.admit(id(1), "ann", elsewhere(), s(0)).unwrap();
    assert_eq!(last.total(), 128 * 1024);
    let refused = table.admit(id(2), "ann", elsewhere(), s(0));
    assert_eq!(refused, Err(Reason::Memory));
    let places = || [("ann", 0); 4].into_iter();
    let refused = table.admit(id(2), "ann", places(), s(0));
    assert_eq!(refused, Err(Reason::Busy));
    assert!(table.admit(id(2), "bob", places(), s(0)).is_ok());
}

const fn kib(replay: u32, window: u32) -> Sizes {
    Sizes {
        replay: replay * 1024,
        window: window * 1024,
    }
}

#[test]
fn busy_streams_borrow_what_nobody_is_promised_and_give_it_back() {
    let mut table = Table::new(LIMITS);
    for (n, user) in [(1, "ann"), (2, "ann"), (3, "bob")] {
        table.admit(id(n), user, NONE, s(0)).unwrap();
    }
    let promised = table.reserved();
    // Ann's half is 1 MiB; her streams have 256 and 128 KiB.
    assert_eq!(table.lend(id(1), kib(256, 128)), kib(256, 128));
    assert_eq!(table.lend(id(1), kib(512, 128)), kib(512, 128));
    assert_eq!(table.lend(id(1), kib(2048, 128)), kib(1024, 128), "no more");
    assert_eq!(table.lend(id(1), kib(1024, 400)), kib(1024, 256));
    assert_eq!(table.lend(id(1), kib(1024, 512)), kib(1024, 256), "all");
    assert_eq!(table.lend(id(2), kib(512, 64)), kib(64, 64));
    assert_eq!(table.reserved(), promised + (1 << 20));
    // What is lent takes nothing from who comes, nor from others.
    assert_eq!(table.admit(id(4), "bob", NONE, s(0)), Ok(kib(64, 64)));
    assert_eq!(table.lend(id(3), kib(1024, 64)).replay, 1024 * 1024);
    assert_eq!(table.lend(id(1), kib(1024, 200)), kib(1024, 200));
    assert_eq!(table.lend(id(1), kib(0, 0)), kib(128, 128), "its own");
    assert_eq!(table.take_back(id(1), kib(600, 400)), kib(128, 128));
    assert_eq!(table.lend(id(1), kib(600, 128)), kib(600, 128));
    assert!(table.lends());
    table.stop_lending();
    assert!(!table.lends());
    assert_eq!(table.lend(id(1), kib(700, 400)), kib(600, 128));
    assert_eq!(table.lend(id(1), kib(300, 128)), kib(300, 128));
    assert_eq!(table.lend(id(9), kib(1024, 64)), Sizes::LEAST, "unknown");
    let listed = table.streams().map(|(.., bytes)| bytes).sum::<u32>();
    assert_eq!(listed, promised + kib(64, 64).total());
}

#[test]
fn who_wants_little_gets_that() {
    let mut limits = LIMITS;
    limits.sizes = Sizes::LEAST;
    let mut table = Table::new(limits);
    assert_eq!(table.admit(id(1), "ann", NONE, s(0)), Ok(Sizes::LEAST));
}

#[test]
fn places_are_limited_in_all_and_for_each_user() {
    let memory = 1 << 30;
    let mut table = Table::new(Limits { memory, ..LIMITS });
    for n in 0..4 {
        assert_eq!(table.admit(id(n), "ann", NONE, s(0)), Ok(Sizes::AGENT));
    }
    assert_eq!(table.admit(id(4), "ann", NONE, s(0)), Err(Reason::Busy));
    for n in 4..8 {
        assert_eq!(table.admit(id(n), "bob", NONE, s(0)), Ok(Sizes::AGENT));
    }
    assert_eq!(table.admit(id(8), "eve", NONE, s(0)), Err(Reason::Busy));
    table.remove(id(1));
    assert_eq!(
        table.admit(id(2), "ann", NONE, s(0)),
        Err(Reason::Misbehaved)
    );
    assert_eq!(table.admit(id(1), "ann", NONE, s(0)), Ok(Sizes::AGENT));
    assert_eq!(table.of_user("ann").count(), 4);
    let bytes = Sizes::AGENT.total();
    assert!(
        table
            .streams()
            .any(|stream| stream == (id(7), "bob", bytes))
    );
    assert_eq!(table.streams().count(), 8);
}

#[test]
fn a_table_takes_no_more_than_it_can_hold_whatever_it_is_allowed() {
    let mut table = Table::new(Limits {
        streams: usize::MAX,
        per_user: usize::MAX,
        memory: u32::MAX,
        sizes: Sizes::LEAST,
        busy: Sizes::LEAST,
        spare: u32::MAX,
    });
    let admitted = (0..=u8::MAX).map(|n| table.admit(id(n), "ann", NONE, s(0)));
    let refused: Vec<_> = admitted.skip(MAX_STREAMS).collect();
    assert_eq!(table.len(), MAX_STREAMS);
    assert!(refused.iter().all(|refused| *refused == Err(Reason::Busy)));
    assert!(!refused.is_empty());
}

#[test]
fn only_its_user_finds_a_stream() {
    let mut table = Table::new(LIMITS);
    table.admit(id(1), "ann", NONE, s(0)).unwrap();
    assert_eq!(table.attach(id(1), "ann", s(0)), Ok(()));
    assert_eq!(table.attach(id(1), "eve", s(0)), Err(Reason::Gone));
    assert_eq!(table.attach(id(2), "ann", s(0)), Err(Reason::Gone));
}

#[test]
fn who_guesses_uses_up_nobody_elses_tries_and_no_more_memory_than_for_some() {
    let mut table = Table::new(LIMITS);
    for n in 0..=BURST {
        table.attach(id(n), "eve", s(1)).unwrap_err();
    }
    assert_eq!(table.attach(id(1), "eve", s(1)), Err(Reason::Busy));
    assert_eq!(table.attach(id(1), "ann", s(1)), Err(Reason::Gone));
    for n in 0..200 {
        let user = format!("eve-{n}");
        assert_eq!(table.attach(id(1), &user, s(1)), Err(Reason::Gone));
    }
    assert_eq!(table.strangers.len(), STRANGERS);
    for n in 0..BURST {
        let expected = if n + 1 < BURST {
            Reason::Gone
        } else {
            Reason::Busy
        };
        let again = table.attach(id(n), "eve-199", s(1));
        assert_eq!(again, Err(expected), "it is remembered");
    }
}

#[test]
fn tries_are_limited_for_a_stream_and_for_guesses() {
    let mut table = Table::new(LIMITS);
    table.admit(id(1), "ann", NONE, s(0)).unwrap();
    for n in 0..200 {
        let expected = if n < BURST {
            Reason::Gone
        } else {
            Reason::Busy
        };
        assert_eq!(table.attach(id(n | 0x40), "eve", s(1)), Err(expected));
    }
    for _ in 0..BURST {
        assert_eq!(
            table.attach(id(1), "ann", s(1)),
            Ok(()),
            "guesses harm nobody"
        );
    }
    assert_eq!(table.attach(id(1), "ann", s(1)), Err(Reason::Busy));
    assert_eq!(table.attach(id(1), "ann", s(2)), Ok(()));
    table.proof_was_wrong(id(1), s(60));
    assert_eq!(table.attach(id(1), "ann", s(60)), Err(Reason::Busy));
    assert_eq!(table.attach(id(1), "ann", s(61)), Ok(()));
}
