//! The bound of one look at rows.

/// How much one look may do before others get a turn.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Rows looked at.
    pub rows: usize,
    /// Bytes of what is found.
    pub bytes: usize,
}

impl Budget {
    /// No bound.
    pub const NONE: Self = Self {
        rows: usize::MAX,
        bytes: usize::MAX,
    };

    /// Takes what a row costs out of it.
    pub fn spend(&mut self, rows: usize, bytes: usize) {
        self.rows = self.rows.saturating_sub(rows);
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// Whether nothing is left.
    pub fn is_spent(&self) -> bool {
        self.rows == 0 || self.bytes == 0
    }
}
