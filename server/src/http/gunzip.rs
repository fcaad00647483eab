//! Messages that a client compressed with gzip, as they would have come without.
//!
//! gRPC compresses each message by itself and says so in its prefix. Unpacked here, before anything else looks at a
//! request, a message is bounded and counted by what it becomes: a thousand times what came, if a client means harm.

use std::io::{self, Write};

use bytes::{BufMut, Bytes, BytesMut};
use flate2::write::GzDecoder;
use tonic::Status;

use super::prefix::PREFIX_BYTES;
use super::words::too_large;

/// Unpacks one stream of messages.
pub(super) struct Gunzip {
    /// Longest message, before and after.
    bytes_max: usize,
    prefix: [u8; PREFIX_BYTES],
    have: usize,
    /// Bytes that the message which has begun still lacks.
    left: usize,
    packed: Option<GzDecoder<Unpacked>>,
}

/// The part of a message that is unpacked so far.
struct Unpacked {
    bytes: Vec<u8>,
    bytes_max: usize,
}

impl Gunzip {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            prefix: [0; PREFIX_BYTES],
            have: 0,
            left: 0,
            packed: None,
        }
    }

    /// Bytes of the message that is being unpacked.
    pub(super) fn held_bytes(&self) -> usize {
        self.packed
            .as_ref()
            .map_or(0, |packed| packed.get_ref().bytes.len())
    }

    /// Whether a message has begun and not ended.
    pub(super) fn has_begun(&self) -> bool {
        self.have > 0
    }

    /// Takes what came, and returns what it is in plain messages: perhaps nothing yet.
    pub(super) fn feed(&mut self, mut data: &[u8]) -> Result<Bytes, Status> {
        let mut plain = BytesMut::new();
        while !data.is_empty() {
            if self.have < PREFIX_BYTES {
                let (piece, rest) = data.split_at((PREFIX_BYTES - self.have).min(data.len()));
                self.prefix[self.have..self.have + piece.len()].copy_from_slice(piece);
                self.have += piece.len();
                data = rest;
                if self.have == PREFIX_BYTES {
                    self.begin(&mut plain)?;
                }
            } else {
                let (piece, rest) = data.split_at(self.left.min(data.len()));
                self.left -= piece.len();
                data = rest;
                match &mut self.packed {
                    Some(packed) => packed
                        .write_all(piece)
                        .map_err(|error| self.broken(&error))?,
                    None => plain.put_slice(piece),
                }
            }
            if self.have == PREFIX_BYTES && self.left == 0 {
                self.end(&mut plain)?;
            }
        }
        Ok(plain.freeze())
    }

    fn begin(&mut self, plain: &mut BytesMut) -> Result<(), Status> {
        let [flag, length @ ..] = self.prefix;
        self.left = u32::from_be_bytes(length) as usize;
        if self.left > self.bytes_max {
            return Err(too_large(self.left, self.bytes_max));
        }
        if flag == 1 {
            self.packed = Some(GzDecoder::new(Unpacked {
                bytes: Vec::new(),
                bytes_max: self.bytes_max,
            }));
        } else {
            // As it is, or nonsense that the next one refuses.
            plain.put_slice(&self.prefix);
        }
        Ok(())
    }

    fn end(&mut self, plain: &mut BytesMut) -> Result<(), Status> {
        self.have = 0;
        let Some(packed) = self.packed.take() else {
            return Ok(());
        };
        let unpacked = packed.finish().map_err(|error| self.broken(&error))?.bytes;
        plain.put_u8(0);
        plain.put_u32(u32::try_from(unpacked.len()).unwrap_or(u32::MAX));
        plain.put_slice(&unpacked);
        Ok(())
    }

    /// In the words of Go's gRPC.
    fn broken(&self, error: &io::Error) -> Status {
        let max = self.bytes_max;
        match error.kind() {
            io::ErrorKind::FileTooLarge => Status::resource_exhausted(format!(
                "grpc: received message after decompression larger than max {max}"
            )),
            _ => Status::internal(format!(
                "grpc: failed to decompress the received message: {error}"
            )),
        }
    }
}

impl Write for Unpacked {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + piece.len() > self.bytes_max {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(piece);
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn message(flag: u8, bytes: &[u8]) -> Vec<u8> {
        let length = u32::try_from(bytes.len()).unwrap().to_be_bytes();
        [&[flag], length.as_slice(), bytes].concat()
    }

    fn packed(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        message(1, &encoder.finish().unwrap())
    }

    #[test]
    fn messages_come_out_plain_however_they_are_cut() {
        let texts = [b"".as_slice(), b"some", &[7; 70_000]];
        let came = [
            packed(texts[0]),
            message(0, b"plain"),
            packed(texts[1]),
            packed(texts[2]),
        ];
        let plain = [
            message(0, b""),
            message(0, b"plain"),
            message(0, b"some"),
            message(0, texts[2]),
        ];
        for size in [1, 3, 50, 10_000] {
            let mut gunzip = Gunzip::new(70_000);
            let mut out = Vec::new();
            for piece in came.concat().chunks(size) {
                out.extend(gunzip.feed(piece).unwrap());
            }
            assert_eq!(out, plain.concat(), "in pieces of {size}");
            assert_eq!(gunzip.held_bytes(), 0);
        }
    }

    #[test]
    fn what_becomes_too_large_is_refused_before_it_is_held() {
        let mut gunzip = Gunzip::new(1000);
        let refused = gunzip.feed(&packed(&vec![0; 10_000_000])).unwrap_err();
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
        assert!(gunzip.held_bytes() <= 1000);
        let refused = Gunzip::new(1000).feed(&message(1, b"no gzip")).unwrap_err();
        assert_eq!(refused.code(), tonic::Code::Internal);
        let refused = Gunzip::new(1000).feed(&[1, 0, 1, 0, 0]).unwrap_err();
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
    }
}
