//! The frames of an HTTP/2 connection as they come in: the stream whose head is open, and the frames that bring
//! nothing.

use super::allowance::{Allowance, Flood};

/// The first bytes of an HTTP/2 client.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Frames of HTTP/2 (RFC 9113, section 6) that are told apart here.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;
pub(super) const HEADER_BYTES: usize = 9;

/// Where in the stream of frames a connection is.
#[derive(Debug)]
pub(super) struct Frames {
    at: At,
    /// Whether a head of several frames has begun and not ended.
    head_open: bool,
    /// Heads seen, so that each is timed by itself.
    heads: u64,
    /// Calls that came and were not reset: each may be reset once. A reset costs less than the call that it ends, and
    /// a client whose deadlines pass while a member stalls resets a thousand at once.
    resettable: u64,
    /// Frames begun since the connection's task last gave others a turn.
    in_turn: u32,
    pub(super) allowance: Allowance,
}

#[derive(Debug)]
enum At {
    /// Bytes of the preface that have come.
    Preface(usize),
    /// HTTP/1, which has no frames; hyper times its heads.
    Plain,
    /// In a frame's header.
    Header([u8; HEADER_BYTES], usize),
    /// Bytes of a frame's payload that are to come.
    Payload { left: usize, of_head: bool },
}

impl Default for Frames {
    fn default() -> Self {
        Self {
            at: At::Preface(0),
            head_open: false,
            heads: 0,
            resettable: 0,
            in_turn: 0,
            allowance: Allowance::default(),
        }
    }
}

impl Frames {
    /// The number of the thing that the other side has begun and must end soon: the preface with its first frame, or
    /// a head.
    pub(super) fn owed(&self) -> Option<u64> {
        let of_head = matches!(self.at, At::Payload { of_head: true, .. });
        let is_new = matches!(self.at, At::Preface(_)) || (self.heads == 0);
        match self.at {
            At::Plain => None,
            _ if is_new => Some(0),
            _ => (self.head_open || of_head).then_some(self.heads),
        }
    }

    /// Whether this connection speaks HTTP/2, as far as is known.
    pub(super) fn is_http2(&self) -> bool {
        !matches!(self.at, At::Plain)
    }

    /// Frames begun since the last [`next_turn`](Self::next_turn).
    pub(super) fn in_turn(&self) -> u32 {
        self.in_turn
    }

    /// Others have had a turn.
    pub(super) fn next_turn(&mut self) {
        self.in_turn = 0;
    }

    /// Looks at bytes that came in.
    pub(super) fn read(&mut self, mut bytes: &[u8]) -> Result<(), Flood> {
        while !bytes.is_empty() {
            match &mut self.at {
                At::Plain => return Ok(()),
                At::Preface(have) => {
                    let rest = &PREFACE[*have..];
                    let more = rest.len().min(bytes.len());
                    if rest[..more] != bytes[..more] {
                        self.at = At::Plain;
                        return Ok(());
                    }
                    bytes = &bytes[more..];
                    *have += more;
                    if *have == PREFACE.len() {
                        self.at = At::Header([0; HEADER_BYTES], 0);
                    }
                }
                At::Header(header, have) => {
                    let more = (HEADER_BYTES - *have).min(bytes.len());
                    header[*have..*have + more].copy_from_slice(&bytes[..more]);
                    bytes = &bytes[more..];
                    *have += more;
                    if *have == HEADER_BYTES {
                        let header = *header;
                        self.begin(header)?;
                    }
                }
                At::Payload { left, .. } => {
                    let more = (*left).min(bytes.len());
                    bytes = &bytes[more..];
                    *left -= more;
                    if *left == 0 {
                        self.at = At::Header([0; HEADER_BYTES], 0);
                    }
                }
            }
        }
        Ok(())
    }

    fn begin(&mut self, header: [u8; HEADER_BYTES]) -> Result<(), Flood> {
        let [high, middle, low, kind, flags, ..] = header;
        let length = u32::from_be_bytes([0, high, middle, low]) as usize;
        let of_head = matches!(kind, HEADERS | CONTINUATION);
        self.in_turn = self.in_turn.saturating_add(1);
        match kind {
            // h2 bounds these itself: small ones against the window, calls by how many are open.
            DATA => {}
            HEADERS => self.resettable += 1,
            RST_STREAM if self.resettable > 0 => self.resettable -= 1,
            _ => self.allowance.take()?,
        }
        if kind == HEADERS || self.heads == 0 {
            self.heads += 1;
        }
        if of_head {
            self.head_open = flags & END_HEADERS == 0;
        }
        self.at = match length {
            0 => At::Header([0; HEADER_BYTES], 0),
            left => At::Payload { left, of_head },
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    const PING: [u8; 17] = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];

    fn opened() -> Frames {
        let mut frames = Frames::default();
        frames.read(PREFACE).unwrap();
        frames.read(&SETTINGS).unwrap();
        frames
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_owes_the_preface_and_a_first_frame() {
        let mut frames = Frames::default();
        for byte in PREFACE {
            assert_eq!(frames.owed(), Some(0));
            frames.read(&[*byte]).unwrap();
        }
        assert_eq!(frames.owed(), Some(0), "it has said nothing of its own");
        frames.read(&SETTINGS).unwrap();
        assert_eq!(frames.owed(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn plain_http_owes_nothing_here() {
        let mut frames = Frames::default();
        frames.read(b"PUT / HTTP/1.1\r\n").unwrap();
        assert_eq!(frames.owed(), None);
        frames.read(&PING.repeat(20_000)).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn each_head_is_owed_until_its_last_frame_is_whole() {
        let mut frames = opened();
        // Ends with its own frame, byte by byte.
        let head = [0, 0, 2, 1, 4, 0, 0, 0, 1, 7, 7];
        for byte in &head[..10] {
            frames.read(&[*byte]).unwrap();
        }
        let first = frames.owed();
        assert!(first.is_some());
        frames.read(&head[10..]).unwrap();
        assert_eq!(frames.owed(), None);
        // Goes on in another frame.
        frames.read(&[0, 0, 0, 1, 0, 0, 0, 0, 3]).unwrap();
        assert!(frames.owed().is_some() && frames.owed() != first);
        frames.read(&[0, 0, 0, 9, 0, 0, 0, 0, 3]).unwrap();
        assert!(frames.owed().is_some());
        frames.read(&[0, 0, 0, 9, 4, 0, 0, 0, 3]).unwrap();
        assert_eq!(frames.owed(), None);
        // Data is owed by its call, not by the connection.
        frames.read(&[0, 0, 9, 0, 0, 0, 0, 0, 3]).unwrap();
        assert_eq!(frames.owed(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn only_frames_beside_calls_and_data_count() {
        let mut frames = opened();
        let head = [0, 0, 0, 1, 4, 0, 0, 0, 1];
        frames.read(&head.repeat(20_000)).unwrap();
        let data = [0, 0, 1, 0, 0, 0, 0, 0, 1, 7];
        frames.read(&data.repeat(20_000)).unwrap();
        assert_eq!(frames.read(&PING.repeat(20_000)), Err(Flood));
    }
    #[tokio::test(start_paused = true)]
    async fn each_call_may_be_reset_once() {
        let mut frames = opened();
        let head = [0, 0, 0, 1, 4, 0, 0, 0, 1];
        let reset = [0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 8];
        let given_up = [head.as_slice(), &reset].concat();
        frames.read(&given_up.repeat(100_000)).unwrap();
        assert_eq!(frames.read(&reset.repeat(20_000)), Err(Flood));
    }
}
