//! CRC-32C (Castagnoli), the checksum of etcd's hashes, and that of two texts in a row from those of both.

/// Reflected, without its highest term.
const POLYNOMIAL: u32 = 0x82f6_3b78;

const TABLES: [[u32; 256]; 8] = tables();
/// `x^(8 * 2^n)`: the shift by `2^n` bytes.
const POWERS: [u32; 32] = powers();

/// Over all bytes so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Crc32c(u32);

impl Crc32c {
    pub(super) fn of(bytes: &[u8]) -> Self {
        let mut sum = Self::default();
        sum.add(bytes);
        sum
    }

    /// The checksum that has this value.
    pub(super) fn known(value: u32) -> Self {
        Self(value)
    }

    pub(super) fn value(self) -> u32 {
        self.0
    }

    pub(super) fn add(&mut self, bytes: &[u8]) {
        let mut sum = !self.0;
        let (eights, rest) = bytes.as_chunks::<8>();
        for eight in eights {
            let [a, b, c, d, e, f, g, h] =
                (u64::from_le_bytes(*eight) ^ u64::from(sum)).to_le_bytes();
            let step = |table: usize, byte: u8| TABLES[table][usize::from(byte)];
            sum = step(7, a) ^ step(6, b) ^ step(5, c) ^ step(4, d);
            sum ^= step(3, e) ^ step(2, f) ^ step(1, g) ^ step(0, h);
        }
        for byte in rest {
            sum = (sum >> 8) ^ TABLES[0][usize::from(sum.to_le_bytes()[0] ^ byte)];
        }
        self.0 = !sum;
    }

    /// Adds `bytes` bytes whose own checksum is `sum`.
    pub(super) fn append(&mut self, sum: Self, bytes: u32) {
        let mut power = 1 << 31;
        for (bit, square) in POWERS.iter().enumerate() {
            if bytes >> bit & 1 == 1 {
                power = product(power, *square);
            }
        }
        self.0 = product(self.0, power) ^ sum.0;
    }
}

/// The product of two polynomials, modulo [`POLYNOMIAL`]; the highest bit is the term of degree 0.
const fn product(a: u32, mut b: u32) -> u32 {
    let mut sum = 0;
    let mut bit = 1 << 31;
    while bit != 0 {
        if a & bit != 0 {
            sum ^= b;
        }
        b = if b & 1 == 1 {
            (b >> 1) ^ POLYNOMIAL
        } else {
            b >> 1
        };
        bit >>= 1;
    }
    sum
}

const fn powers() -> [u32; 32] {
    let mut powers = [0; 32];
    // One byte: x^8.
    powers[0] = 1 << 23;
    let mut n = 1;
    while n < 32 {
        powers[n] = product(powers[n - 1], powers[n - 1]);
        n += 1;
    }
    powers
}

/// Table `n` says what a byte does that `n` more follow.
const fn tables() -> [[u32; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut sum = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            sum = if sum & 1 == 1 {
                (sum >> 1) ^ POLYNOMIAL
            } else {
                sum >> 1
            };
            bit += 1;
        }
        tables[0][byte] = sum;
        byte += 1;
    }
    let mut n = 1;
    while n < 8 {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[n - 1][byte];
            tables[n][byte] = (before >> 8) ^ tables[0][(before & 0xff) as usize];
            byte += 1;
        }
        n += 1;
    }
    tables
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_checksum_is_that_of_the_standard() {
        // RFC 3720, B.4, and the usual check.
        assert_eq!(Crc32c::of(b"123456789").value(), 0xe306_9283);
        assert_eq!(Crc32c::of(&[0; 32]).value(), 0x8a91_36aa);
        assert_eq!(Crc32c::of(&[0xff; 32]).value(), 0x62a8_ab43);
        assert_eq!(Crc32c::of(b"").value(), 0);
    }

    proptest! {
        #[test]
        fn two_texts_in_a_row_have_the_sum_of_both(a: Vec<u8>, b: Vec<u8>) {
            let mut sum = Crc32c::of(&a);
            let mut fed = sum;
            sum.append(Crc32c::of(&b), u32::try_from(b.len()).unwrap());
            fed.add(&b);
            prop_assert_eq!(sum, fed);
            prop_assert_eq!(sum, Crc32c::of(&[a, b].concat()));
        }
    }
}
