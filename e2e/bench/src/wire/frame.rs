//! gRPC's length-prefixed messages.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;

use super::CallError;

/// Flag byte and big-endian length.
const PREFIX: usize = 5;

/// One message with its prefix.
pub(super) fn encode(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut out = BytesMut::with_capacity(PREFIX + length);
    out.put_u8(0);
    out.put_u32(u32::try_from(length).expect("a benchmark's message is far below 4 GiB"));
    message
        .encode(&mut out)
        .expect("the buffer was sized for the message");
    out.freeze()
}

/// Received bytes that may hold several messages, or part of one.
#[derive(Debug, Default)]
pub(super) struct Inbox(BytesMut);

impl Inbox {
    /// Adds what arrived.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// The next whole message, without its prefix.
    pub(super) fn pop(&mut self) -> Result<Option<Bytes>, CallError> {
        if self.0.len() < PREFIX {
            return Ok(None);
        }
        if self.0[0] != 0 {
            return Err(CallError::Malformed("compressed message"));
        }
        let length = (&self.0[1..PREFIX]).get_u32() as usize;
        if self.0.len() < PREFIX + length {
            return Ok(None);
        }
        self.0.advance(PREFIX);
        Ok(Some(self.0.split_to(length).freeze()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_out_whole_however_they_were_cut() {
        let wire = [encode(&"first".to_owned()), encode(&"second".to_owned())].concat();
        for cut in 0..wire.len() {
            let mut inbox = Inbox::default();
            let mut got = Vec::new();
            for part in [&wire[..cut], &wire[cut..]] {
                inbox.push(part);
                while let Some(message) = inbox.pop().unwrap() {
                    got.push(String::decode(message).unwrap());
                }
            }
            assert_eq!(got, ["first", "second"], "cut at {cut}");
        }
    }

    #[test]
    fn a_compressed_message_is_an_error() {
        let mut inbox = Inbox::default();
        inbox.push(&[1, 0, 0, 0, 0]);
        assert!(inbox.pop().is_err());
    }
}
