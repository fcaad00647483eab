//! The frames of an HTTP/2 connection as they go out: how many belong to answers, and whether the last one ends it.

use super::frames::HEADER_BYTES;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const GOAWAY: u8 = 7;
/// Bytes of a GOAWAY frame up to the end of its error code.
const GOAWAY_BYTES: usize = 8;
/// Errors of a GOAWAY frame (RFC 9113, section 7).
const NO_ERROR: u32 = 0;
const ENHANCE_YOUR_CALM: u32 = 11;

/// Where in the stream of frames the writer is.
#[derive(Debug, Default)]
pub(super) struct Sent {
    header: [u8; HEADER_BYTES],
    have: usize,
    /// Bytes that the payload still lacks.
    left: usize,
    /// The begin of a GOAWAY frame's payload.
    goaway: Option<([u8; GOAWAY_BYTES], usize)>,
    /// Frames of answers that began since they were last taken.
    answers: u64,
    /// Why the connection is ended, until it is taken.
    cut: Option<&'static str>,
}

impl Sent {
    /// Looks at bytes that went out.
    pub(super) fn wrote(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let (payload, rest) = bytes.split_at(self.left.min(bytes.len()));
                bytes = rest;
                self.left -= payload.len();
                self.payload(payload);
                continue;
            }
            let more = (HEADER_BYTES - self.have).min(bytes.len());
            self.header[self.have..self.have + more].copy_from_slice(&bytes[..more]);
            bytes = &bytes[more..];
            self.have += more;
            if self.have == HEADER_BYTES {
                self.begin();
            }
        }
    }

    /// Frames of answers that began since the last call.
    pub(super) fn answers(&mut self) -> u64 {
        std::mem::take(&mut self.answers)
    }

    /// Why the protocol's implementation ends the connection, said once.
    pub(super) fn cut(&mut self) -> Option<&'static str> {
        self.cut.take()
    }

    fn begin(&mut self) {
        let [high, middle, low, kind, ..] = self.header;
        self.have = 0;
        self.left = u32::from_be_bytes([0, high, middle, low]) as usize;
        match kind {
            DATA | HEADERS => self.answers += 1,
            GOAWAY => self.goaway = Some(([0; GOAWAY_BYTES], 0)),
            _ => {}
        }
    }

    fn payload(&mut self, payload: &[u8]) {
        let Some((begin, have)) = &mut self.goaway else {
            return;
        };
        let more = (GOAWAY_BYTES - *have).min(payload.len());
        begin[*have..*have + more].copy_from_slice(&payload[..more]);
        *have += more;
        if *have < GOAWAY_BYTES {
            return;
        }
        let [_, _, _, _, code @ ..] = *begin;
        self.goaway = None;
        match u32::from_be_bytes(code) {
            NO_ERROR => {}
            ENHANCE_YOUR_CALM => self.cut = Some("flood"),
            _ => self.cut = Some("protocol"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn goaway(code: u8) -> Vec<u8> {
        let frame = [0, 0, 11, GOAWAY, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, code];
        [frame.as_slice(), b"why"].concat()
    }

    #[test]
    fn frames_of_answers_and_the_end_are_seen_however_they_are_cut() {
        let answer = [
            [0, 0, 1, HEADERS, 4, 0, 0, 0, 1, 7].as_slice(),
            &[0, 0, 2, DATA, 0, 0, 0, 0, 1, 7, 7],
            &[0, 0, 4, 8, 0, 0, 0, 0, 0, 0, 0, 0, 1],
            &[0, 0, 0, HEADERS, 5, 0, 0, 0, 1],
        ]
        .concat();
        for (code, reason) in [(0, None), (11, Some("flood")), (1, Some("protocol"))] {
            let all = [answer.as_slice(), &goaway(code)].concat();
            for size in 1..all.len() {
                let mut sent = Sent::default();
                for piece in all.chunks(size) {
                    sent.wrote(piece);
                }
                assert_eq!((sent.answers(), sent.cut()), (3, reason), "by {size}");
                assert_eq!((sent.answers(), sent.cut()), (0, None));
            }
        }
    }
}
