//! The machine at either end.

use std::time::Duration;

use protocol::resume::{Agent, Client, Event, Generation, Stream};

/// What both ends' machines have in common. For [`Agent`] and [`Client`] alone.
#[allow(missing_docs, reason = "each stands for the method of the machine")]
pub trait End: Send + 'static {
    fn stream(&self) -> &Stream;
    fn stream_mut(&mut self) -> &mut Stream;
    fn received(&mut self, on: Generation, bytes: &[u8], out: &mut [u8], now: Duration) -> usize;
    fn expects(&self, on: Generation) -> usize;
    fn passed(&mut self, on: Generation, count: usize, now: Duration);
    fn closed(&mut self, on: Generation, now: Duration);
    fn timeout(&mut self, now: Duration);
    fn next_timeout(&self) -> Duration;
    fn event(&mut self) -> Option<Event>;
    fn transmit(&mut self, on: Generation) -> [&[u8]; 3];
    fn transmitted(&mut self, on: Generation, count: usize, now: Duration);
    /// Whether nobody needs it any more.
    fn is_done(&self, now: Duration) -> bool;
}

macro_rules! end {
    ($end:ty, $is_done:expr) => {
        impl End for $end {
            fn stream(&self) -> &Stream {
                Self::stream(self)
            }
            fn stream_mut(&mut self) -> &mut Stream {
                Self::stream_mut(self)
            }
            fn received(
                &mut self,
                on: Generation,
                bytes: &[u8],
                out: &mut [u8],
                now: Duration,
            ) -> usize {
                self.handle_received(on, bytes, out, now)
            }
            fn expects(&self, on: Generation) -> usize {
                Self::expects(self, on)
            }
            fn passed(&mut self, on: Generation, count: usize, now: Duration) {
                self.handle_passed(on, count, now);
            }
            fn closed(&mut self, on: Generation, now: Duration) {
                self.handle_closed(on, now);
            }
            fn timeout(&mut self, now: Duration) {
                self.handle_timeout(now);
            }
            fn next_timeout(&self) -> Duration {
                self.poll_timeout().0
            }
            fn event(&mut self) -> Option<Event> {
                self.poll_event()
            }
            fn transmit(&mut self, on: Generation) -> [&[u8]; 3] {
                self.transmit(on)
            }
            fn transmitted(&mut self, on: Generation, count: usize, now: Duration) {
                self.transmitted(on, count, now);
            }
            fn is_done(&self, now: Duration) -> bool {
                $is_done(self, now)
            }
        }
    };
}

end!(Agent, Agent::is_forgotten);
end!(Client, |client: &Client, _| client.stream().end().is_some());
