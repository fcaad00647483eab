//! Primitives of our own encodings: canonical variable-length numbers, length-prefixed bytes, tags.
//!
//! A number is written in groups of seven bits, lowest first, the high bit saying that more follow, in as few bytes as
//! it takes. Signed numbers are written as the two's complement bits of the same width.

use bytes::Bytes;

use super::CodecError;

/// Appends values to a buffer.
#[derive(Debug, Default)]
pub struct Writer {
    out: Vec<u8>,
}

impl Writer {
    /// An empty one that takes `bytes` without growing.
    pub fn with_capacity(bytes: usize) -> Self {
        Self {
            out: Vec::with_capacity(bytes),
        }
    }

    /// The bytes written so far.
    pub fn finish(self) -> Bytes {
        Bytes::from(self.out)
    }

    /// How much was written.
    pub fn written(&self) -> usize {
        self.out.len()
    }

    /// Bytes as they are, without their length.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// One byte.
    pub fn u8(&mut self, value: u8) {
        self.out.push(value);
    }

    /// A claim.
    pub fn bool(&mut self, value: bool) {
        self.out.push(u8::from(value));
    }

    /// A number.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the low seven bits are meant"
    )]
    pub fn u64(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.out.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.out.push(value as u8);
    }

    /// A signed number, as its bits.
    pub fn i64(&mut self, value: i64) {
        self.u64(value.cast_unsigned());
    }

    /// Bytes after their length.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.u64(bytes.len() as u64);
        self.raw(bytes);
    }
}

/// Where a value's encoding goes: into a buffer, or only to be counted. One function writes both, so that a size is never
/// another value's.
pub trait Sink {
    /// One byte.
    fn u8(&mut self, value: u8);
    /// A claim.
    fn bool(&mut self, value: bool);
    /// A number.
    fn u64(&mut self, value: u64);
    /// A signed number, as its bits.
    fn i64(&mut self, value: i64);
    /// Bytes after their length.
    fn bytes(&mut self, bytes: &[u8]);
}

impl Sink for Writer {
    fn u8(&mut self, value: u8) {
        Self::u8(self, value);
    }

    fn bool(&mut self, value: bool) {
        Self::bool(self, value);
    }

    fn u64(&mut self, value: u64) {
        Self::u64(self, value);
    }

    fn i64(&mut self, value: i64) {
        Self::i64(self, value);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        Self::bytes(self, bytes);
    }
}

/// Counts the bytes that a [`Writer`] would hold.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counter {
    /// The bytes counted so far.
    pub bytes: usize,
}

impl Sink for Counter {
    fn u8(&mut self, _: u8) {
        self.bytes += 1;
    }

    fn bool(&mut self, _: bool) {
        self.bytes += 1;
    }

    fn u64(&mut self, value: u64) {
        // Seven bits a byte, and zero takes one.
        self.bytes += (64 - (value | 1).leading_zeros() as usize).div_ceil(7);
    }

    fn i64(&mut self, value: i64) {
        self.u64(value.cast_unsigned());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.u64(bytes.len() as u64);
        self.bytes += bytes.len();
    }
}

/// Takes values from a buffer; bytes come out as slices of it.
#[derive(Debug)]
pub struct Reader {
    input: Bytes,
    at: usize,
}

impl Reader {
    /// Reads `input` from its beginning.
    pub fn new(input: Bytes) -> Self {
        Self { input, at: 0 }
    }

    /// Where it stands.
    pub fn at(&self) -> usize {
        self.at
    }

    /// All of the buffer, whatever was read.
    pub fn into_inner(self) -> Bytes {
        self.input
    }

    /// The bytes that are left, without their length.
    pub fn rest(&mut self) -> Bytes {
        let rest = self.input.slice(self.at..);
        self.at = self.input.len();
        rest
    }

    /// Refuses anything left.
    pub fn end(&self) -> Result<(), CodecError> {
        match self.input.len() - self.at {
            0 => Ok(()),
            bytes => Err(CodecError::Trailing { bytes }),
        }
    }

    /// `bytes` bytes as they are.
    pub fn raw(&mut self, bytes: usize) -> Result<Bytes, CodecError> {
        let truncated = CodecError::Truncated { at: self.at };
        let end = self.at.checked_add(bytes).ok_or(truncated.clone())?;
        if end > self.input.len() {
            return Err(truncated);
        }
        let taken = self.input.slice(self.at..end);
        self.at = end;
        Ok(taken)
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8, CodecError> {
        let byte = *self
            .input
            .get(self.at)
            .ok_or(CodecError::Truncated { at: self.at })?;
        self.at += 1;
        Ok(byte)
    }

    /// The next byte, which stays.
    pub fn peek(&self) -> Result<u8, CodecError> {
        let truncated = CodecError::Truncated { at: self.at };
        self.input.get(self.at).copied().ok_or(truncated)
    }

    /// A claim.
    pub fn bool(&mut self) -> Result<bool, CodecError> {
        let at = self.at;
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(CodecError::NotCanonical { at }),
        }
    }

    /// A number.
    pub fn u64(&mut self) -> Result<u64, CodecError> {
        let at = self.at;
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(CodecError::NotCanonical { at });
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                if byte == 0 && shift > 0 {
                    return Err(CodecError::NotCanonical { at });
                }
                return Ok(value);
            }
        }
        Err(CodecError::NotCanonical { at })
    }

    /// A number of at most 32 bits.
    pub fn u32(&mut self, what: &'static str) -> Result<u32, CodecError> {
        let at = self.at;
        u32::try_from(self.u64()?).map_err(|_| CodecError::OutOfRange { what, at })
    }

    /// A signed number.
    pub fn i64(&mut self) -> Result<i64, CodecError> {
        Ok(self.u64()?.cast_signed())
    }

    /// Bytes after their length.
    pub fn bytes(&mut self) -> Result<Bytes, CodecError> {
        let at = self.at;
        let length = usize::try_from(self.u64()?).map_err(|_| CodecError::Truncated { at })?;
        self.raw(length)
    }

    /// Text after its length.
    pub fn text(&mut self) -> Result<String, CodecError> {
        let at = self.at;
        String::from_utf8(self.bytes()?.to_vec()).map_err(|_| CodecError::Text { at })
    }

    /// How many items follow, each of at least `bytes_min` bytes: more than the rest can hold is refused.
    pub fn count(&mut self, bytes_min: usize) -> Result<usize, CodecError> {
        let at = self.at;
        let count = usize::try_from(self.u64()?).map_err(|_| CodecError::Truncated { at })?;
        if count > (self.input.len() - self.at) / bytes_min {
            return Err(CodecError::Truncated { at });
        }
        Ok(count)
    }
}
