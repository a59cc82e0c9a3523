//! A client, an agent, a network that breaks, and the programs at both ends.

mod arrive;

use std::time::Duration;

use fastrand::Rng;
use protocol::resume::frame::{Attach, Opening};
use protocol::resume::{
    Agent, Client, End, Event, Generation, LINGER, Limits, Reason, Secret, Sizes, Start, StreamId,
    Table,
};

use crate::app::App;
use crate::mac::TestMac;
use crate::wire::{Pipe, Wire};

pub(crate) const CLIENT: usize = 0;
pub(crate) const AGENT: usize = 1;

/// What the network does from time to time.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Faults {
    /// Until then.
    pub(crate) until: Duration,
    /// About this often.
    pub(crate) every: Duration,
    /// The agent's process is replaced now and then.
    pub(crate) restarts: bool,
}

pub(crate) struct World {
    pub(crate) rng: Rng,
    pub(crate) now: Duration,
    pub(crate) client: Client,
    pub(crate) agent: Option<Agent>,
    pub(crate) table: Table,
    pub(crate) apps: [App; 2],
    pub(crate) ends: [Option<End>; 2],
    pub(crate) wires: Vec<Wire>,
    pub(crate) faults: Faults,
    /// No dial succeeds, and no byte arrives, before then.
    pub(crate) dark_until: Duration,
    pub(crate) events: Vec<(Duration, usize, Event)>,
    pub(crate) grace: Duration,
    pub(crate) steps: usize,
    holds: Holds,
    /// What a wire holds at most, each way.
    capacity: usize,
    /// Bytes that went to the applications without a detour.
    pub(crate) passed: usize,
    fault_at: Duration,
    /// What clients sent to attach, as an eavesdropper in the proxy would have it.
    heard: Vec<(Attach, Vec<u8>)>,
}

enum Step {
    Opening(usize),
    Up(usize),
    Down(usize),
    Timer(usize),
    App(usize),
    Fault,
}

/// What the ends and the network between them hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Holds {
    pub(crate) client: Sizes,
    /// What the agent promises...
    pub(crate) agent: Sizes,
    /// ...and what it lends besides.
    pub(crate) busy: Sizes,
    /// What a wire holds at most, each way: one of these.
    pub(crate) wires: [usize; 3],
}

impl Holds {
    /// The least, so that all of it is soon full.
    pub(crate) const LITTLE: Self = Self {
        client: Sizes::LEAST,
        agent: Sizes::LEAST,
        busy: Sizes {
            replay: 100_000,
            window: 80_000,
        },
        wires: [200, 1500, 70_000],
    };
    /// As by default.
    pub(crate) const USUAL: Self = Self {
        client: Sizes::CLIENT,
        agent: Sizes::AGENT,
        busy: Sizes::BUSY,
        wires: [70_000, 500_000, 3_000_000],
    };

    fn limits(&self) -> Limits {
        Limits {
            streams: 4,
            per_user: 4,
            memory: 4 * self.agent.total(),
            sizes: self.agent,
            busy: self.busy,
            // One user may borrow half of it.
            spare: 2 * self.busy.total(),
        }
    }
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let apps = App::pair(&mut rng);
        Self::with(rng, apps, Faults::default())
    }

    pub(crate) fn with(rng: Rng, apps: [App; 2], faults: Faults) -> Self {
        Self::holding(Holds::LITTLE, rng, apps, faults)
    }

    pub(crate) fn holding(holds: Holds, mut rng: Rng, apps: [App; 2], faults: Faults) -> Self {
        let start = Start {
            id: StreamId([7; 16]),
            secret: Secret([9; 32]),
            sizes: holds.client,
            seed: rng.u64(..),
        };
        let (client, opening) = Client::open(start, &TestMac, Duration::ZERO);
        let capacity = holds.wires[rng.usize(0..3)];
        let first = Wire::new(Generation(0), &opening, ms(50), capacity);
        Self {
            rng,
            now: Duration::ZERO,
            client,
            agent: None,
            table: Table::new(holds.limits()),
            holds,
            apps,
            ends: [None; 2],
            wires: vec![first],
            faults,
            dark_until: Duration::ZERO,
            events: Vec::new(),
            grace: Duration::from_secs(3600),
            steps: 0,
            capacity,
            // The dial that opens the stream is like any dial: it succeeds, or does not.
            fault_at: faults.every + ms(200),
            passed: 0,
            heard: Vec::new(),
        }
    }

    /// Without faults, and with room for much on the way.
    pub(crate) fn wide(seed: u64, apps: [App; 2]) -> Self {
        let mut world = Self::with(Rng::with_seed(seed), apps, Faults::default());
        world.capacity = 70_000;
        world.wires[0].capacity = world.capacity;
        world
    }

    /// Runs until both ends are over, and the agent has forgotten the stream.
    pub(crate) fn run_to_end(&mut self) {
        while self.is_used(CLIENT) || self.agent.is_some() {
            assert!(self.step(Duration::MAX), "nothing will ever happen");
        }
    }

    pub(crate) fn run(&mut self, span: Duration) {
        let until = self.now + span;
        while self.step(until) {}
        self.now = until;
    }

    /// Lets the next thing happen, if that is before `limit`.
    pub(crate) fn step(&mut self, limit: Duration) -> bool {
        let (at, step) = self.next();
        if at >= limit {
            return false;
        }
        self.steps += 1;
        assert!(self.steps < 60_000, "no end is in sight at {:?}", self.now);
        self.now = self.now.max(at);
        match step {
            Step::Opening(i) => self.dialled(i),
            Step::Up(i) => self.arrive(i, AGENT),
            Step::Down(i) => self.arrive(i, CLIENT),
            Step::Timer(CLIENT) => self.client.handle_timeout(self.now),
            Step::Timer(_) => self.agent_timeout(),
            Step::App(side) => self.act(side),
            Step::Fault => self.fail(),
        }
        self.pump();
        self.check();
        true
    }

    fn next(&self) -> (Duration, Step) {
        let mut next = (self.client.poll_timeout().0, Step::Timer(CLIENT));
        let mut offer = |at: Duration, step: Step| {
            if at < next.0 {
                next = (at, step);
            }
        };
        if let Some(agent) = &self.agent {
            offer(agent.poll_timeout().0, Step::Timer(AGENT));
            if self.is_used(AGENT) {
                offer(self.apps[AGENT].next_at, Step::App(AGENT));
            }
        }
        if self.is_used(CLIENT) {
            offer(self.apps[CLIENT].next_at, Step::App(CLIENT));
        }
        if self.fault_at < self.faults.until {
            offer(self.fault_at, Step::Fault);
        }
        for (i, wire) in self.wires.iter().enumerate() {
            match &wire.opening {
                Some((at, _)) => offer(*at, Step::Opening(i)),
                None => offer(wire.up.next_at(), Step::Up(i)),
            }
            offer(wire.down.next_at(), Step::Down(i));
        }
        next
    }

    /// Whether there may be something to write, or to read.
    fn is_used(&self, side: usize) -> bool {
        match self.ends[side] {
            None => true,
            Some(end) => end == End::Clean && self.apps[side].read < self.apps[side].reads,
        }
    }

    fn act(&mut self, side: usize) {
        let app = &mut self.apps[side];
        let stream = match (side, &mut self.agent) {
            (CLIENT, _) => self.client.stream_mut(),
            (_, Some(agent)) => agent.stream_mut(),
            (_, None) => return,
        };
        app.act(stream, &mut self.rng, self.now);
        self.forget();
    }

    fn agent_timeout(&mut self) {
        let Some(agent) = &mut self.agent else { return };
        agent.handle_timeout(self.now);
        self.forget();
    }

    fn forget(&mut self) {
        let Some(agent) = &self.agent else { return };
        if agent.is_forgotten(self.now) {
            self.table.remove(agent.stream().id());
            self.agent = None;
        }
    }

    /// An opening arrives at the agent, by way of the proxy.
    fn dialled(&mut self, index: usize) {
        let Some((_, opening)) = self.wires[index].opening.take() else {
            return;
        };
        let refused = match Opening::decode(&opening).expect("the client's own") {
            Opening::Open(open) => {
                let sizes = self
                    .table
                    .admit(open.id, "ann", core::iter::empty(), self.now)
                    .unwrap();
                let mut agent = Agent::accept(&open, sizes, self.grace, &TestMac, self.now);
                agent.stream_mut().may_want(self.holds.busy);
                self.agent = Some(agent);
                Ok(())
            }
            Opening::Attach(attach) => {
                self.heard.push((attach, Vec::new()));
                self.attach(&attach)
            }
        };
        if let Err(reason) = refused {
            let at = self.now + ms(50);
            let wire = &mut self.wires[index];
            wire.down.push(&reason.frame(), at);
            wire.down.end(at);
            wire.up.unread = true;
        }
    }

    fn attach(&mut self, attach: &Attach) -> Result<(), Reason> {
        self.table.attach(attach.id, "ann", self.now)?;
        let agent = self.agent.as_mut().ok_or(Reason::Gone)?;
        agent.attach(attach, self.rng.u128(..).to_be_bytes(), self.now)
    }

    /// Moves what the ends want to send, and does what they ask for, until they want nothing.
    pub(crate) fn pump(&mut self) {
        loop {
            let mut busy = false;
            for index in 0..self.wires.len() {
                busy |= self.send(index, CLIENT) | self.send(index, AGENT);
            }
            while let Some(event) = self.client.poll_event() {
                self.perform(CLIENT, event);
                busy = true;
            }
            while let Some(event) = self.agent.as_mut().and_then(Agent::poll_event) {
                self.perform(AGENT, event);
                busy = true;
            }
            if !busy {
                break;
            }
        }
        self.wires.retain(|wire| !wire.is_dead());
    }

    fn send(&mut self, index: usize, side: usize) -> bool {
        let at = self.now.max(self.dark_until) + ms(self.rng.u64(1..80));
        let wire = &mut self.wires[index];
        if side == AGENT && wire.opening.is_some() {
            return false;
        }
        let on = wire.generation;
        let pipe = if side == CLIENT {
            &mut wire.up
        } else {
            &mut wire.down
        };
        let mut buffer = vec![0; pipe.room(wire.capacity).min(self.rng.usize(1..30_000))];
        let copies = self.rng.bool();
        let now = self.now;
        let count = match (side, copies, &mut self.agent) {
            (CLIENT, true, _) => self.client.poll_transmit(on, &mut buffer, now),
            (CLIENT, false, _) => {
                let count = gather(self.client.transmit(on), &mut buffer);
                self.client.transmitted(on, count, now);
                count
            }
            (_, true, Some(agent)) => agent.poll_transmit(on, &mut buffer, now),
            (_, false, Some(agent)) => {
                let count = gather(agent.transmit(on), &mut buffer);
                agent.transmitted(on, count, now);
                count
            }
            _ => 0,
        };
        pipe.push(&buffer[..count], at);
        count > 0
    }

    fn perform(&mut self, side: usize, event: Event) {
        self.events.push((self.now, side, event));
        match event {
            Event::Dial(generation) => self.dial(generation),
            Event::Close(generation, reason) => self.close(side, generation, reason),
            Event::Ended(end) => assert_eq!(self.ends[side].replace(end), None, "ended twice"),
            Event::Wants(sizes) => self.lend(sizes),
            Event::Attached(_) | Event::Stalled | Event::Recovered | Event::Detached => {}
        }
    }

    /// The agent's end wants more, or less.
    fn lend(&mut self, wanted: Sizes) {
        let Some(agent) = &mut self.agent else { return };
        let stream = agent.stream_mut();
        let lent = self.table.lend(stream.id(), wanted);
        stream.lend(lent, self.now);
    }

    fn dial(&mut self, generation: Generation) {
        let nonce = self.rng.u128(..).to_be_bytes();
        let opening = self.client.opening(generation, nonce).expect("asked for");
        if self.now < self.dark_until && self.rng.bool() {
            // Refused connections; others wait for nothing.
            self.client.handle_closed(generation, self.now);
            return;
        }
        let at = self.now.max(self.dark_until) + ms(self.rng.u64(20..400));
        let wire = Wire::new(generation, &opening, at, self.capacity);
        self.wires.push(wire);
    }

    fn close(&mut self, side: usize, generation: Generation, reason: Option<Reason>) {
        let at = self.now.max(self.dark_until) + ms(self.rng.u64(1..200));
        // What an end no longer wants may still arrive there.
        let late = self.rng.bool();
        for wire in self.wires.iter_mut().filter(|w| w.generation == generation) {
            let (out, back): (&mut Pipe, &mut Pipe) = match side {
                CLIENT => (&mut wire.up, &mut wire.down),
                _ => (&mut wire.down, &mut wire.up),
            };
            out.push(&reason.map(Reason::frame).unwrap_or_default(), at);
            out.end(at);
            back.unread |= !late;
        }
    }

    fn fail(&mut self) {
        let every = u64::try_from(self.faults.every.as_millis()).unwrap();
        self.fault_at = self.now + ms(self.rng.u64(0..=2 * every));
        match self.rng.u8(0..10) {
            0..=4 => self.cut(),
            5..=6 => self.dark_until = self.now + ms(self.rng.u64(0..30_000)),
            7 if self.rng.bool() => self.client.handle_slept(ms(0), self.now),
            7 => self.client.handle_network_changed(self.now),
            8 if self.faults.restarts => self.restart_agent(),
            _ => self.replay(),
        }
    }

    /// Breaks wires; each end notices in its own time, or long after.
    pub(crate) fn cut(&mut self) {
        for wire in &mut self.wires {
            if self.rng.u8(..) < 200 {
                let (rng, now) = (&mut self.rng, self.now);
                for pipe in [&mut wire.up, &mut wire.down] {
                    let notice = [0, 300, 40_000][rng.usize(0..3)];
                    pipe.cut(rng, now + ms(notice));
                }
            }
        }
    }

    /// Replaces the agent's process.
    pub(crate) fn restart_agent(&mut self) {
        let Some(bytes) = self.agent.as_ref().and_then(Agent::snapshot) else {
            return;
        };
        let mut agent = Agent::restore(&bytes, &TestMac, self.now).expect("its own snapshot");
        agent.stream_mut().may_want(self.holds.busy);
        self.agent = Some(agent);
        for wire in &mut self.wires {
            wire.up.unread = true;
            wire.up.end(self.now);
            wire.down.end(self.now);
        }
    }

    /// Somebody sends again what a client once sent.
    fn replay(&mut self) {
        let Some((attach, bytes)) = self.rng.choice(&self.heard).cloned() else {
            return;
        };
        let before = self
            .agent
            .as_ref()
            .and_then(|agent| agent.stream().attached());
        let on = Generation(attach.generation);
        if self.attach(&attach).is_ok() {
            let agent = self.agent.as_mut().unwrap();
            let mut out = [0; 512];
            assert!(
                agent.poll_transmit(on, &mut out, self.now) > 0,
                "a challenge"
            );
            assert_eq!(agent.handle_received(on, &bytes, &mut out, self.now), 0);
            agent.handle_closed(on, self.now);
        }
        let after = self
            .agent
            .as_ref()
            .and_then(|agent| agent.stream().attached());
        assert_eq!(before, after, "a replay changed something");
    }

    /// What holds at any time.
    fn check(&self) {
        let agent = self.agent.as_ref().map(Agent::stream);
        let client = (self.client.stream(), self.holds.client.total());
        let agent = agent.map(|stream| (stream, self.table.reserved()));
        for (stream, most) in [Some(client), agent].into_iter().flatten() {
            assert_eq!(stream.held().total(), most);
            assert!(
                stream.memory() <= most as usize,
                "{} bytes",
                stream.memory()
            );
            let over = stream.end().is_some_and(|end| end != End::Clean);
            let over = over && stream.attached().is_none();
            assert!(
                !over || stream.memory() == 0,
                "memory of a stream that is over"
            );
        }
        assert!(self.now < self.faults.until + self.grace + LINGER + ms(3_600_000));
    }

    /// When an event of that kind came first.
    pub(crate) fn first(&self, side: usize, is: impl Fn(&Event) -> bool) -> Option<Duration> {
        let found = self.events.iter().find(|(_, s, e)| *s == side && is(e));
        found.map(|(at, ..)| *at)
    }
}

fn gather(parts: [&[u8]; 3], out: &mut [u8]) -> usize {
    let bytes = parts.concat();
    let count = bytes.len().min(out.len());
    out[..count].copy_from_slice(&bytes[..count]);
    count
}

pub(crate) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}
