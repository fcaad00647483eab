//! How a log is run.

/// The largest payload of an entry, on every member whatever it takes from its own clients: members with larger requests
/// replicate to it.
pub const ENTRY_BYTES_MAX: usize = 144 << 20;

/// How a log is run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Length of a segment: a multiple of 4096. One that is begun for a larger entry is as long as that needs. Small ones are for
    /// tests.
    pub segment_bytes: u64,
    /// The largest payload that an entry may have.
    pub entry_bytes_max: usize,
    /// Entries kept in memory beside those that are not durable yet. Peers that are less behind than this and the
    /// state are served without reading the disk.
    pub recent_bytes_max: usize,
    /// Whether a thread writes. Otherwise each call that is waited for writes before it returns, or a stepper does.
    pub threaded: bool,
}

impl Options {
    /// As the default, of a process that may take `memory_bytes` in all: on a small machine it keeps fewer entries in memory.
    pub fn of(memory_bytes: u64) -> Self {
        const PART_OF_MEMORY: u64 = 32;
        let usual = Self::default();
        let part = usize::try_from(memory_bytes / PART_OF_MEMORY);
        Self {
            recent_bytes_max: part.map_or(usual.recent_bytes_max, |part| {
                part.min(usual.recent_bytes_max)
            }),
            ..usual
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            // Filled once and then recycled; large enough that changing over is rare, small enough that a new member does
            // not wait for it, and that little is kept which is not needed.
            segment_bytes: 4 << 20,
            entry_bytes_max: ENTRY_BYTES_MAX,
            recent_bytes_max: 32 << 20,
            threaded: true,
        }
    }
}
