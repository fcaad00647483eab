//! How many frames beside calls and their data a connection may send.
//!
//! Settings, pings, window updates. Clients send them in answer to what they get, so that is what earns them: a client
//! at its top speed is never cut, and one that only makes work is.

use crate::clock::Moment;

/// Frames beside calls and their data that a connection may send at once.
const BURST: u64 = 10_000;
/// Frames a second beyond the burst.
const PER_SECOND: u64 = 1_000;
/// Further frames for each frame of an answer. gRPC's C core updates its window twice for each, Go's updates it once
/// and sends a ping to measure the bandwidth.
const PER_FRAME: u64 = 2;
/// Bytes of an answer for one further frame: a client that reads large frames updates its windows several times for
/// each.
const PER_BYTES: u64 = 64;

/// More frames than are allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flood;

#[derive(Debug)]
pub(super) struct Allowance {
    left: u64,
    /// Earned by what was sent since it was filled.
    earned: u64,
    /// Bytes sent that have not earned a frame yet.
    bytes: u64,
    filled: Moment,
}

impl Default for Allowance {
    fn default() -> Self {
        Self {
            left: BURST,
            earned: 0,
            bytes: 0,
            filled: Moment::now(),
        }
    }
}

impl Allowance {
    /// Counts what was sent to the other side: bytes, and frames of answers that began in them.
    pub(super) fn sent(&mut self, bytes: usize, frames: u64) {
        self.bytes += bytes as u64;
        self.earned += self.bytes / PER_BYTES + frames * PER_FRAME;
        self.bytes %= PER_BYTES;
    }

    /// Counts a frame that came in.
    pub(super) fn take(&mut self) -> Result<(), Flood> {
        if self.left == 0 {
            let now = Moment::now();
            let millis = u64::try_from(now.since(self.filled).as_millis()).unwrap_or(u64::MAX);
            let earned = millis.saturating_mul(PER_SECOND) / 1000 + self.earned;
            if earned == 0 {
                return Err(Flood);
            }
            self.left = earned.min(BURST);
            self.earned = 0;
            self.filled = now;
        }
        self.left -= 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn frames_beside_calls_are_earned_by_time_and_by_what_was_sent() {
        let mut allowance = Allowance::default();
        let takes =
            |allowance: &mut Allowance| (0..).take_while(|_| allowance.take().is_ok()).count();
        assert_eq!(takes(&mut allowance), BURST as usize);
        tokio::time::advance(Duration::from_millis(500)).await;
        assert_eq!(takes(&mut allowance), 500);
        for _ in 0..6 {
            allowance.sent(PER_BYTES as usize / 2, 0);
        }
        assert_eq!(takes(&mut allowance), 3);
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(takes(&mut allowance), BURST as usize, "it does not save up");
    }

    #[tokio::test(start_paused = true)]
    async fn the_clumsiest_client_earns_what_it_sends() {
        let mut allowance = Allowance::default();
        // An answer of gRPC: headers, a small message, trailers. The C core updates two windows, Go's pings besides.
        for call in 0..1_000_000 {
            allowance.sent(64, 3);
            for _ in 0..3 {
                assert_eq!(allowance.take(), Ok(()), "call {call}");
            }
        }
    }
}
