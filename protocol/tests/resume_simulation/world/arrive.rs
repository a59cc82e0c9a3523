//! What arrives on the wires.

use super::*;

impl World {
    /// Bytes, or the end, arrive on a wire.
    pub(super) fn arrive(&mut self, index: usize, side: usize) {
        let wire = &mut self.wires[index];
        let on = wire.generation;
        let pipe = if side == AGENT {
            &mut wire.up
        } else {
            &mut wire.down
        };
        if self.now < self.dark_until {
            pipe.delay(self.dark_until + ms(10));
            let ends_at = pipe.ends_at.map(|at| at.max(self.dark_until + ms(10)));
            pipe.ends_at = ends_at;
            return;
        }
        let bytes = pipe.pop();
        pipe.unread |= bytes.is_none();
        if let (AGENT, Some(bytes)) = (side, &bytes) {
            self.overhear(on, bytes);
        }
        self.tell_end(side, on, bytes.as_deref());
    }

    pub(super) fn tell_end(&mut self, side: usize, on: Generation, bytes: Option<&[u8]>) {
        let mut out = vec![0; [0, 100, 4000][self.rng.usize(0..3)]];
        let now = self.now;
        let bytes = match bytes {
            Some(bytes) if self.rng.bool() => Some(self.pass(side, on, bytes, out.len())),
            _ => bytes,
        };
        let count = match (side, bytes, &mut self.agent) {
            (CLIENT, Some(bytes), _) => self.client.handle_received(on, bytes, &mut out, now),
            (AGENT, Some(bytes), Some(agent)) => agent.handle_received(on, bytes, &mut out, now),
            (CLIENT, None, _) => return self.client.handle_closed(on, now),
            (_, None, Some(agent)) => return agent.handle_closed(on, now),
            _ => 0,
        };
        self.apps[side].check(&out[..count]);
    }

    /// Hands the application what it may have without a detour, up to so much; the rest is left.
    fn pass<'b>(&mut self, side: usize, on: Generation, bytes: &'b [u8], most: usize) -> &'b [u8] {
        let now = self.now;
        let count = |expected: usize| expected.min(most).min(bytes.len());
        let count = match (side, &mut self.agent) {
            (CLIENT, _) => {
                let count = count(self.client.expects(on));
                self.client.handle_passed(on, count, now);
                count
            }
            (_, Some(agent)) => {
                let count = count(agent.expects(on));
                agent.handle_passed(on, count, now);
                count
            }
            _ => 0,
        };
        let (direct, rest) = bytes.split_at(count);
        self.apps[side].check(direct);
        self.passed += count;
        rest
    }

    fn overhear(&mut self, on: Generation, bytes: &[u8]) {
        let heard = self.heard.iter_mut();
        for (_, log) in heard.filter(|(a, log)| a.generation == on.0 && log.len() < 300) {
            log.extend(bytes);
        }
    }
}
