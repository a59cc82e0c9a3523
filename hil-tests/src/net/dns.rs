//! A name server (RFC 1035) that knows a few names, and may be gone.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;

use super::server::Server;

const HEADER: usize = 12;
const A: u16 = 1;
const IN: u16 = 1;
/// Seconds that an answer may be kept: a name that moves is seen to have moved.
const TTL: u32 = 1;
/// In what every answer begins with: it is one, and recursion is available.
const ANSWER: u16 = 0x8180;
const NO_SUCH_NAME: u16 = 3;
const SERVER_FAILURE: u16 = 2;

/// How it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Health {
    /// It answers.
    #[default]
    Well,
    /// It says that something is wrong.
    Failing,
    /// It says nothing.
    Gone,
}

/// A name server that runs until this is dropped.
pub struct Dns {
    state: Arc<Mutex<State>>,
    _server: Server,
}

#[derive(Default)]
struct State {
    health: Health,
    names: HashMap<String, Ipv4Addr>,
    asked: u64,
}

impl Dns {
    /// Starts one at port 53 of an address of this machine.
    ///
    /// # Errors
    /// If it cannot listen there.
    pub fn start(host: &str) -> Result<Self> {
        let state = Arc::new(Mutex::new(State::default()));
        let asked = Arc::clone(&state);
        let answer = move |query: &[u8]| lock(&asked).answer(query);
        Ok(Self {
            state,
            _server: Server::udp(&format!("{host}:53"), answer)?,
        })
    }

    /// Knows a name from now on.
    pub fn set(&self, name: &str, addr: Ipv4Addr) {
        lock(&self.state)
            .names
            .insert(name.to_ascii_lowercase(), addr);
    }

    /// Is like this from now on.
    pub fn set_health(&self, health: Health) {
        lock(&self.state).health = health;
    }

    /// How often it was asked.
    #[must_use]
    pub fn asked(&self) -> u64 {
        lock(&self.state).asked
    }
}

impl State {
    fn answer(&mut self, query: &[u8]) -> Option<Vec<u8>> {
        let (name, end) = name(query)?;
        let kind = word(query, end)?;
        self.asked += 1;
        let known = self.names.get(&name);
        let (code, addr) = match (self.health, known) {
            (Health::Gone, _) => return None,
            (Health::Failing, _) => (SERVER_FAILURE, None),
            (Health::Well, None) => (NO_SUCH_NAME, None),
            // A name without addresses of that kind.
            (Health::Well, Some(addr)) => (0, (kind == A).then_some(addr)),
        };
        let counts = [1, u16::from(addr.is_some()), 0, 0].map(u16::to_be_bytes);
        let mut said = query.get(..2)?.to_vec();
        said.extend((ANSWER | code).to_be_bytes());
        said.extend(counts.as_flattened());
        said.extend(query.get(HEADER..end + 4)?);
        if let Some(addr) = addr {
            // The name is the one that was asked for.
            said.extend([0xc0, HEADER as u8]);
            said.extend([A, IN].map(u16::to_be_bytes).as_flattened());
            said.extend(TTL.to_be_bytes());
            said.extend(4u16.to_be_bytes());
            said.extend(addr.octets());
        }
        Some(said)
    }
}

/// The name that is asked for, and where it ends.
fn name(query: &[u8]) -> Option<(String, usize)> {
    let (mut labels, mut at) = (Vec::new(), HEADER);
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        if length == 0 {
            return Some((labels.join("."), at));
        }
        let label = std::str::from_utf8(query.get(at..at + length)?).ok()?;
        labels.push(label.to_ascii_lowercase());
        at += length;
    }
}

fn word(query: &[u8], at: usize) -> Option<u16> {
    let bytes = query.get(at..)?.first_chunk().copied()?;
    Some(u16::from_be_bytes(bytes))
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
