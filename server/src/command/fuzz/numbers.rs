//! Small choices out of bytes: the same bytes mean the same choices, and when they run out every choice is the first one.

use bytes::Bytes;

use crate::command::Keys;

/// Bytes that choices are taken from.
pub struct Numbers<'a>(&'a [u8]);

impl<'a> Numbers<'a> {
    /// All choices that these bytes hold.
    pub fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    /// Whether there are more.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One of `[0, max)`, of which there is one at least.
    pub fn below(&mut self, max: u8) -> u8 {
        self.byte() % max
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    /// Up to `max` bytes, as many as the next byte says.
    pub fn bytes(&mut self, max: u8) -> &'a [u8] {
        let count = usize::from(self.below(max.saturating_add(1)));
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// One of these keys.
    pub fn key(&mut self, of: &[&'static [u8]]) -> Bytes {
        let count = u8::try_from(of.len()).expect("a handful of keys");
        Bytes::from_static(of[usize::from(self.below(count))])
    }

    /// One of these keys, all from it on, or a range between two of them, which may be backwards and so hold nothing.
    pub fn keys(&mut self, of: &[&'static [u8]]) -> Keys {
        match self.below(4) {
            0 => Keys::One(self.key(of)),
            1 => Keys::Range {
                start: self.key(of),
                end: None,
            },
            _ => Keys::Range {
                start: self.key(of),
                end: Some(self.key(of)),
            },
        }
    }
}
