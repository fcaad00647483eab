//! The frame format: how records become sectors that can each be judged alone.
//!
//! A disk writes sectors of 512 bytes whole or not at all, so each one carries its own checksum, the generation of its
//! segment and the number of its frame. That is what tells a torn write (some sectors still hold their *older valid*
//! content) from damage (a sector that is valid in no generation). A checksum over the whole frame alone could not.
//!
//! Sector: `crc32 u32 | generation u64 | frame u32 | 496 bytes of content`, little-endian; the checksum covers all after
//! it and starts from the sector's number in the file, so that a misplaced sector is invalid. A fresh file is filled with
//! blank sectors (generation 0). A frame is `length u32 | chain u32 | records`, spread over whole blocks of 8 sectors;
//! the chain checksum starts from the previous frame's.

use crc32fast::Hasher;

/// Bytes that a disk writes atomically.
pub(super) const SECTOR: usize = 512;
/// Bytes written at once, at least: the page size of today's disks.
pub(super) const BLOCK: usize = 4096;
const SECTORS_A_BLOCK: usize = BLOCK / SECTOR;
const SECTOR_HEAD: usize = 16;
const SECTOR_BODY: usize = SECTOR - SECTOR_HEAD;
const FRAME_HEAD: usize = 8;

/// The state of one sector in a segment of a given generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sector {
    /// Written in this generation, as part of this frame.
    Written {
        /// The frame's number.
        frame: u32,
    },
    /// Valid, but of an earlier generation or blank: not written in this one.
    Unwritten,
    /// These bytes were never written.
    Damaged,
}

fn checksum(sector: &[u8], number: u32) -> u32 {
    let mut hasher = Hasher::new_with_initial(number);
    hasher.update(&sector[4..]);
    hasher.finalize()
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// Judges sector `number` of a segment of `generation`.
pub(super) fn judge(sector: &[u8], number: u32, generation: u64) -> Sector {
    if u32_at(sector, 0) != checksum(sector, number) {
        return Sector::Damaged;
    }
    match u64_at(sector, 4) {
        found if found == generation => Sector::Written {
            frame: u32_at(sector, 12),
        },
        found if found < generation => Sector::Unwritten,
        _ => Sector::Damaged,
    }
}

/// Fills `blocks` with blank sectors, the first of which has `first_block`'s place in the file.
pub(super) fn blank(blocks: &mut [u8], first_block: u32) {
    write_sectors(&[], 0, 0, first_block, blocks);
}

/// Blocks of a frame with `record_bytes` of records.
pub(super) fn blocks_for(record_bytes: usize) -> u32 {
    let bytes = record_bytes + FRAME_HEAD;
    u32::try_from(bytes.div_ceil(SECTOR_BODY * SECTORS_A_BLOCK)).expect("frames are far smaller")
}

/// Bytes of records that fit in a frame of `blocks`.
pub(super) fn room_in(blocks: u32) -> usize {
    (blocks as usize * SECTORS_A_BLOCK * SECTOR_BODY).saturating_sub(FRAME_HEAD)
}

/// Where a frame goes and what it follows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Generation of the segment.
    pub(super) generation: u64,
    /// The frame's number in it.
    pub(super) frame: u32,
    /// First block.
    pub(super) block: u32,
    /// Chain value of the frame before.
    pub(super) chain: u32,
}

/// A frame being built: room for its head, then records.
pub(super) fn start_frame(content: &mut Vec<u8>) {
    content.clear();
    content.resize(FRAME_HEAD, 0);
}

/// Completes the head of `content` and spreads it over `blocks`; returns the new chain value.
pub(super) fn seal_frame(content: &mut [u8], place: Place, blocks: &mut [u8]) -> u32 {
    let length = u32::try_from(content.len() - FRAME_HEAD).expect("frames are far smaller");
    let mut hasher = Hasher::new_with_initial(place.chain);
    hasher.update(&length.to_le_bytes());
    hasher.update(&content[FRAME_HEAD..]);
    let chain = hasher.finalize();
    content[0..4].copy_from_slice(&length.to_le_bytes());
    content[4..8].copy_from_slice(&chain.to_le_bytes());
    write_sectors(content, place.generation, place.frame, place.block, blocks);
    chain
}

fn write_sectors(content: &[u8], generation: u64, frame: u32, first_block: u32, blocks: &mut [u8]) {
    debug_assert_eq!(blocks.len() % BLOCK, 0);
    let first = first_block * SECTORS_A_BLOCK as u32;
    let mut parts = content.chunks(SECTOR_BODY);
    for (number, sector) in (first..).zip(blocks.chunks_mut(SECTOR)) {
        let part = parts.next().unwrap_or_default();
        sector[4..12].copy_from_slice(&generation.to_le_bytes());
        sector[12..16].copy_from_slice(&frame.to_le_bytes());
        sector[SECTOR_HEAD..SECTOR_HEAD + part.len()].copy_from_slice(part);
        sector[SECTOR_HEAD + part.len()..].fill(0);
        let sum = checksum(sector, number);
        sector[0..4].copy_from_slice(&sum.to_le_bytes());
    }
    debug_assert!(parts.next().is_none(), "the caller made room");
}

/// The thing found where a frame is expected.
#[derive(Debug)]
pub(super) enum Found {
    /// A whole frame with its records.
    Frame {
        /// The records.
        records: Vec<u8>,
        /// Blocks it takes.
        blocks: u32,
        /// Its chain value.
        chain: u32,
    },
    /// A frame that was being written when the power failed, or none at all. Never acknowledged.
    Unfinished,
    /// Something that was written is no longer what it was.
    Damaged(&'static str),
}

/// Looks for the frame that belongs at `place`. `rest` is the file from there to its end.
pub(super) fn find(rest: &[u8], place: Place) -> Found {
    let sector_at = |index: usize| {
        let number = place.block * SECTORS_A_BLOCK as u32 + index as u32;
        judge(
            &rest[index * SECTOR..(index + 1) * SECTOR],
            number,
            place.generation,
        )
    };
    let ours = Sector::Written { frame: place.frame };
    if rest.is_empty() {
        return Found::Unfinished;
    }
    // Frames are whole blocks: if one sector of the first block was not written, the frame was not completed, whatever
    // became of its neighbours.
    let first_block: Vec<Sector> = (0..SECTORS_A_BLOCK).map(sector_at).collect();
    if first_block.contains(&Sector::Unwritten) {
        return Found::Unfinished;
    }
    if first_block.iter().any(|found| *found != ours) {
        return Found::Damaged("a sector is not what was written");
    }
    let length = u32_at(rest, SECTOR_HEAD) as usize;
    let chain = u32_at(rest, SECTOR_HEAD + 4);
    let blocks = blocks_for(length);
    if blocks as usize * BLOCK > rest.len() {
        return Found::Damaged("a frame is longer than its segment");
    }
    let mut unfinished = false;
    for index in SECTORS_A_BLOCK..blocks as usize * SECTORS_A_BLOCK {
        match sector_at(index) {
            found if found == ours => {}
            Sector::Unwritten => unfinished = true,
            _ => return Found::Damaged("a sector is not what was written"),
        }
    }
    if unfinished {
        return Found::Unfinished;
    }
    let mut records = Vec::with_capacity(length);
    let mut left = length + FRAME_HEAD;
    for sector in rest.chunks(SECTOR).take(blocks as usize * SECTORS_A_BLOCK) {
        let part = left.min(SECTOR_BODY);
        records.extend_from_slice(&sector[SECTOR_HEAD..SECTOR_HEAD + part]);
        left -= part;
    }
    records.drain(..FRAME_HEAD);
    let mut hasher = Hasher::new_with_initial(place.chain);
    hasher.update(&(length as u32).to_le_bytes());
    hasher.update(&records);
    if hasher.finalize() != chain {
        return Found::Damaged("a frame does not follow the one before it");
    }
    Found::Frame {
        records,
        blocks,
        chain,
    }
}

/// The records of the frame that `blocks` are, without knowing what it follows. `None` if they are not (or no longer)
/// that frame.
pub(super) fn read_known(
    blocks: &[u8],
    generation: u64,
    block: u32,
    frame: u32,
) -> Option<Vec<u8>> {
    let first = block * SECTORS_A_BLOCK as u32;
    let mut content = Vec::with_capacity(blocks.len());
    for (number, sector) in (first..).zip(blocks.chunks(SECTOR)) {
        if judge(sector, number, generation) != (Sector::Written { frame }) {
            return None;
        }
        content.extend_from_slice(&sector[SECTOR_HEAD..]);
    }
    let length = u32_at(&content, 0) as usize + FRAME_HEAD;
    if length > content.len() {
        return None;
    }
    content.truncate(length);
    content.drain(..FRAME_HEAD);
    Some(content)
}

/// Whether any sector of `rest` was written in this generation by a frame after `place`'s, and how many blocks from its
/// start hold sectors of that generation at all.
pub(super) fn written_beyond(rest: &[u8], place: Place) -> (bool, u32) {
    let first = place.block * SECTORS_A_BLOCK as u32;
    let (mut later, mut blocks) = (false, 0);
    for (index, sector) in (0u32..).zip(rest.chunks(SECTOR)) {
        // Most are of an earlier generation: no need for their checksums.
        if u64_at(sector, 4) == place.generation
            && let Sector::Written { frame } = judge(sector, first + index, place.generation)
        {
            later |= frame > place.frame;
            blocks = index / SECTORS_A_BLOCK as u32 + 1;
        }
    }
    (later, blocks)
}
