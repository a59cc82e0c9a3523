//! A store whose process is killed while it writes, a hundred times, keeps what it acknowledged.
//!
//! The writing process is this program once more, with the store's path in its environment. It
//! tells on its standard output what was acknowledged, and only then.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of a test, outside of what the linter takes for one"
)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, SystemTime};

use cluster::store::sqlite::{Options, Sqlite};
use cluster::store::{Backend, Item, Key, StoreError};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const STORE: &str = "TETHER_TEST_CRASH_STORE";
const SEED: &str = "TETHER_TEST_SEED";
const KILLS: u32 = 100;
const TASKS: usize = 8;
const KEYS: usize = 16;

/// What one key was acknowledged to hold: a number that only grows, and its revision.
type Acknowledged = BTreeMap<Key, (u64, u64)>;

#[test]
fn what_was_acknowledged_survives_a_hundred_kills() {
    let seed = std::env::var(SEED).map_or_else(|_| fresh_seed(), |seed| seed.parse().unwrap());
    println!("{SEED}={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let mut acknowledged = Acknowledged::new();
    for round in 0..KILLS {
        let after = Duration::from_micros(random.random_range(5_000..60_000));
        write_until_killed(&path, after, &mut acknowledged);
        verify(&path, &acknowledged, round);
    }
    let keys = acknowledged.len();
    let changes: u64 = acknowledged.values().map(|(number, _)| number).sum();
    println!("{changes} acknowledged changes of {keys} keys");
    assert!(
        changes >= u64::from(KILLS),
        "every writer acknowledged something"
    );
}

fn fresh_seed() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    u64::from(now.unwrap().subsec_nanos())
}

/// Kills the writer some time after its first acknowledgement, and adds all it has told.
fn write_until_killed(path: &Path, after: Duration, acknowledged: &mut Acknowledged) {
    let mut writer = Writer::spawn(path);
    let (first, came) = mpsc::channel();
    let told = writer.0.stdout.take().unwrap();
    std::thread::scope(|scope| {
        let listener = scope.spawn(move || listen(BufReader::new(told), &first));
        came.recv().expect("the writer acknowledges something");
        let second = Sqlite::open(path, Options::default());
        assert!(matches!(second.err(), Some(StoreError::Busy { .. })));
        std::thread::sleep(after);
        drop(writer);
        acknowledged.extend(listener.join().unwrap());
    });
}

/// Reads lines such as `acknowledged /n/1/2 3 4` until the end, where one may be cut off.
fn listen(mut lines: impl BufRead, first: &mpsc::Sender<()>) -> Acknowledged {
    let mut acknowledged = Acknowledged::new();
    let mut line = String::new();
    while lines.read_line(&mut line).unwrap() > 0 {
        let whole = line.strip_suffix('\n');
        if let Some(fields) = whole.and_then(|line| line.strip_prefix("acknowledged ")) {
            let fields: Vec<&str> = fields.split(' ').collect();
            let [key, number, revision] = fields[..].try_into().expect("three fields");
            let state = (number.parse().unwrap(), revision.parse().unwrap());
            acknowledged.insert(key.parse().unwrap(), state);
            let _ = first.send(());
        }
        line.clear();
    }
    acknowledged
}

/// A process that writes, and is killed when this is dropped.
struct Writer(Child);

impl Writer {
    fn spawn(path: &Path) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "the_process_that_is_killed", "--nocapture"])
            .env(STORE, path)
            .stdout(Stdio::piped())
            .spawn();
        Self(child.unwrap())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn verify(path: &Path, acknowledged: &Acknowledged, round: u32) {
    let store = Sqlite::open(path, Options::default()).expect("a killed store opens");
    let items = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(store.range(&root(), None, usize::MAX))
        .unwrap();
    let stored: BTreeMap<_, _> = items.iter().map(|item| (&item.key, item)).collect();
    for (key, (number, revision)) in acknowledged {
        let item = stored.get(key).copied();
        let item = item.unwrap_or_else(|| panic!("round {round}: {key} is lost"));
        let found = (number_in(item), item.revision);
        assert!(
            found.0 >= *number && found.1 >= *revision,
            "round {round}: {key} holds {found:?}, acknowledged were {number} and {revision}"
        );
    }
    drop(store);
    let verdict: String = rusqlite::Connection::open(path)
        .and_then(|file| file.pragma_query_value(None, "integrity_check", |row| row.get(0)))
        .unwrap();
    assert_eq!(verdict, "ok", "round {round}");
}

#[test]
fn the_process_that_is_killed() {
    let Some(path) = std::env::var_os(STORE) else {
        return;
    };
    // The test harness has begun a line.
    tell("");
    let store = Sqlite::open(Path::new(&path), Options::default()).unwrap();
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(futures::future::join_all(
            (0..TASKS).map(|task| write_for_ever(&store, task)),
        ));
}

/// Counts up under each of the task's keys in turn, by both ways of writing.
async fn write_for_ever(store: &Sqlite, task: usize) {
    let mut seen = Vec::new();
    for i in 0..KEYS {
        let key = root().join(&task.to_string()).unwrap();
        let key = key.join(&i.to_string()).unwrap();
        let item = store.get(&key).await.unwrap();
        let state = item.map_or((0, 0), |item| (number_in(&item), item.revision));
        seen.push((key, state));
    }
    // Who is killed early does not always get to the same few keys.
    seen.sort_by_key(|(_, (number, _))| *number);
    loop {
        for (key, (number, revision)) in &mut seen {
            *number += 1;
            let value = value(*number);
            *revision = if *revision > 0 && *number % 2 == 0 {
                store.compare_and_swap(key, *revision, value, None).await
            } else {
                store.put(key, value, None).await
            }
            .unwrap();
            tell(&format!("acknowledged {key} {number} {revision}"));
        }
    }
}

/// One line, in one write, past the harness's capture.
fn tell(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("{line}\n").as_bytes()).unwrap();
}

fn root() -> Key {
    Key::new(&["n"]).unwrap()
}

/// A number with a tail of some pages, so that the log is folded into the file now and then.
fn value(number: u64) -> Vec<u8> {
    let mut value = number.to_be_bytes().to_vec();
    value.resize(8 + (number as usize * 997) % 12_000, number as u8);
    value
}

fn number_in(item: &Item) -> u64 {
    let number = u64::from_be_bytes(*item.value.first_chunk().expect("a number"));
    assert!(item.value == value(number), "{} is torn", item.key);
    number
}
