//! Turns queued records into frames, one durable write at a time, and moves from segment to segment.
//!
//! Plain and synchronous: a thread drives it in production, a test or a simulation by hand. Invariant: at most one write
//! is under way, so only the newest frame of the log can be torn.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use super::carried::{Carried, write_header};
use super::disk::{Aligned, Disk, SegmentFile};
use super::log::{FrameAt, Log};
use super::options::Options;
use super::record::{self, Record};
use super::sector::{self, BLOCK, Place};
use crate::command::{ClusterId, MemberId};
use crate::metrics::metrics;

/// Called when what it was queued with is durable, or with the reason why it never will be.
pub(super) type Callback = Box<dyn FnOnce(Result<(), io::Error>) + Send>;

/// The one who waits for a record.
pub(super) enum Waiting {
    Nobody,
    /// Being durable implies that all before are: only the newest of a group is called.
    Watermark(Callback),
    /// Called in any case.
    Each(Callback),
}

impl Waiting {
    /// Tells the waiter that it never became durable, as far as anyone knows.
    pub(super) fn fail(self, why: &str) {
        match self {
            Self::Nobody => {}
            Self::Watermark(callback) | Self::Each(callback) => {
                callback(Err(io::Error::other(why.to_owned())));
            }
        }
    }
}

/// A record on its way to disk.
pub(super) struct Op {
    pub(super) record: Record,
    pub(super) waiting: Waiting,
    /// [`Log::rewrites`] when it was queued.
    pub(super) rewrites: u64,
}

/// The segment that is being written.
pub(super) struct Active {
    pub(super) file: Arc<dyn SegmentFile>,
    pub(super) generation: u64,
    pub(super) blocks: u32,
    pub(super) next_block: u32,
    pub(super) next_frame: u32,
    pub(super) chain: u32,
}

/// The file that becomes the next segment.
pub(super) enum Spare {
    None,
    Ready(Arc<dyn SegmentFile>),
    Coming(JoinHandle<io::Result<Arc<dyn SegmentFile>>>),
}

pub(super) struct Writer {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) cluster: ClusterId,
    pub(super) member: MemberId,
    pub(super) active: Active,
    pub(super) carried: Carried,
    pub(super) spare: Spare,
    /// Names of segments that nothing needs, oldest first: each may become a segment again without being filled.
    used: VecDeque<String>,
    /// Blocks of a segment that is not made for one large record.
    usual_blocks: u32,
    /// Prepare the next segment on a thread of its own.
    background: bool,
    content: Vec<u8>,
    buffer: Aligned,
}

/// Bytes of records in one frame at most: bounds how long a write, and so the wait of what comes after it, takes.
const FRAME_BYTES_MAX: usize = 4 << 20;

/// Segments kept to be used again: those that the longest log loses at once, see `raft::trim`, and two that are
/// partly used.
const USED_MAX: usize = 6;

/// Blocks of a segment beside its frames of records: the header's and the seal's.
const BLOCKS_BESIDE: u32 = 2;

fn blocks_in(bytes: u64) -> u32 {
    u32::try_from(bytes / BLOCK as u64).expect("segments are far smaller")
}

fn bytes_in(blocks: u32) -> u64 {
    u64::from(blocks) * BLOCK as u64
}

/// Name of a segment.
pub(super) fn name(generation: u64) -> String {
    format!("{generation:016x}.wal")
}

impl Writer {
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        (cluster, member): (ClusterId, MemberId),
        (active, spare): (Active, Spare),
        carried: Carried,
        options: Options,
    ) -> Self {
        Self {
            usual_blocks: blocks_in(options.segment_bytes),
            background: options.threaded,
            disk,
            cluster,
            member,
            active,
            carried,
            spare,
            used: VecDeque::new(),
            content: Vec::new(),
            buffer: Aligned::default(),
        }
    }

    /// Makes the first segment of a log, for a cluster at this level.
    pub(super) fn first_segment(
        disk: &Arc<dyn Disk>,
        ids: (ClusterId, MemberId),
        bytes: u64,
        level: u32,
    ) -> io::Result<()> {
        const FIRST: u64 = 1;
        let file = disk.create_segment(&name(FIRST), bytes)?;
        let blocks = blocks_in(bytes);
        let carried = Carried::default();
        write_header(&file, ids, FIRST, blocks, 0, &carried, level)?;
        Ok(())
    }

    /// Writes one frame from the front of `ops` and calls who waited for it. Rotates first if it must.
    pub(super) fn write(&mut self, ops: &mut VecDeque<Op>, log: &Mutex<Log>) -> io::Result<()> {
        let Some(first) = ops.front() else {
            return Ok(());
        };
        let least = bytes_of(&first.record);
        if least > sector::room_in(self.blocks_left()) {
            self.rotate(least, log)?;
        }
        let room = sector::room_in(self.blocks_left()).min(FRAME_BYTES_MAX.max(least));
        sector::start_frame(&mut self.content);
        let start = self.content.len();
        let mut group = Vec::new();
        let mut has_entries = false;
        while let Some(op) = ops.front() {
            let takes_back = matches!(op.record, Record::Truncate(_) | Record::Purge(_));
            // A frame holds one run of entries, so that its first index says where each of them is.
            if (has_entries && takes_back)
                || self.content.len() - start + bytes_of(&op.record) > room
            {
                break;
            }
            has_entries |= matches!(op.record, Record::Entry(_));
            let op = ops.pop_front().expect("it is at the front");
            op.record.encode(&mut self.content);
            group.push(op);
        }
        let place = self.place();
        let written = self
            .write_content(place)
            .and_then(|blocks| self.note(&group, place, blocks, log));
        if let Err(error) = written {
            let why = error.to_string();
            for op in group {
                op.waiting.fail(&why);
            }
            return Err(error);
        }
        let mut newest = None;
        for op in group {
            match op.waiting {
                Waiting::Nobody => {}
                Waiting::Watermark(callback) => newest = Some(callback),
                Waiting::Each(callback) => callback(Ok(())),
            }
        }
        if let Some(callback) = newest {
            callback(Ok(()));
        }
        self.prepare_spare();
        Ok(())
    }

    fn place(&self) -> Place {
        Place {
            generation: self.active.generation,
            frame: self.active.next_frame,
            block: self.active.next_block,
            chain: self.active.chain,
        }
    }

    /// Blocks left for a frame; the last one is kept for the seal.
    fn blocks_left(&self) -> u32 {
        self.active.blocks - 1 - self.active.next_block
    }

    fn write_content(&mut self, place: Place) -> io::Result<u32> {
        let mut head = Vec::new();
        sector::start_frame(&mut head);
        let blocks = sector::blocks_for(self.content.len() - head.len());
        self.buffer.resize(blocks as usize * BLOCK);
        let chain = sector::seal_frame(&mut self.content, place, self.buffer.bytes_mut());
        let offset = u64::from(place.block) * BLOCK as u64;
        let timer = metrics().wal_fsync_seconds.start_timer();
        self.active.file.write_durably(offset, &self.buffer)?;
        timer.observe_duration();
        self.active.chain = chain;
        self.active.next_block += blocks;
        self.active.next_frame += 1;
        if self.content.len() > 2 * FRAME_BYTES_MAX {
            // One large record must not cost this much memory from then on.
            self.content = Vec::new();
            self.buffer = Aligned::default();
        }
        Ok(blocks)
    }

    /// Brings the log in memory up to what is durable now, and lets go of segments that nothing needs.
    fn note(
        &mut self,
        group: &[Op],
        place: Place,
        blocks: u32,
        log: &Mutex<Log>,
    ) -> io::Result<()> {
        let mut log = log.lock().expect("nothing panics while it holds the lock");
        let mut frame = None;
        let mut end = None;
        let mut purged = false;
        for op in group {
            self.carried.follow(&op.record);
            match &op.record {
                Record::Entry(entry) => {
                    let index = entry.position.index;
                    frame.get_or_insert(FrameAt {
                        first: index,
                        generation: place.generation,
                        frame: place.frame,
                        block: place.block,
                        blocks,
                    });
                    if op.rewrites == log.rewrites {
                        end = Some(index + 1);
                    }
                }
                Record::Truncate(to) => log.frames_truncated(*to),
                Record::Purge(to) => {
                    log.frames_purged(*to, self.carried.last.filter(|last| last.index > to.index));
                    purged = true;
                }
                Record::Vote(_) | Record::Committed(_) | Record::Sealed | Record::Peers(_) => {}
            }
        }
        log.frame_written(frame, end);
        if purged {
            self.let_go(&mut log)?;
        }
        Ok(())
    }

    /// Lets go of segments that hold nothing needed: the newest of them are kept under their names to become segments
    /// again, the others are removed. Oldest first, so that what is left never has a gap.
    fn let_go(&mut self, log: &mut Log) -> io::Result<()> {
        let needed = log.oldest_needed().unwrap_or(self.active.generation);
        let needed = needed.min(self.active.generation);
        let kept = log.segments.split_off(&needed);
        for (generation, file) in std::mem::replace(&mut log.segments, kept) {
            let name = name(generation);
            // A reader may still hold the file; then it must not be written over.
            let unread = Arc::strong_count(&file) == 1;
            if unread && blocks_in(file.bytes()?) == self.usual_blocks {
                self.used.push_back(name);
                continue;
            }
            for older in self.used.drain(..) {
                self.disk.remove(&older)?;
            }
            self.disk.remove(&name)?;
        }
        while self.used.len() > USED_MAX {
            if let Some(oldest) = self.used.pop_front() {
                self.disk.remove(&oldest)?;
            }
        }
        Ok(())
    }

    /// Starts to make the next segment once this one is half full, so that nobody waits for it.
    fn prepare_spare(&mut self) {
        if !matches!(self.spare, Spare::None) || self.active.next_block < self.active.blocks / 2 {
            return;
        }
        let make = self.spare_maker();
        self.spare = if self.background {
            Spare::Coming(std::thread::spawn(make))
        } else {
            match make() {
                Ok(file) => Spare::Ready(file),
                // The rotation tries again, and reports.
                Err(_) => Spare::None,
            }
        };
    }

    fn spare_maker(
        &mut self,
    ) -> impl FnOnce() -> io::Result<Arc<dyn SegmentFile>> + Send + 'static {
        let disk = self.disk.clone();
        let used = self.used.pop_front();
        let to = name(self.active.generation + 1);
        let bytes = bytes_in(self.usual_blocks);
        move || match used {
            Some(used) => {
                // The new name is durable before the old content goes: a file under an old name with new content would
                // look like damage.
                disk.rename(&used, &to)?;
                disk.open_segment(&to)
            }
            None => disk.create_segment(&to, bytes),
        }
    }

    /// The file of the next segment, which has room for a record of `record_bytes`. One that is made for a larger record
    /// than usual takes the place of a prepared file, whose header nobody has written.
    fn next_file(&mut self, record_bytes: usize) -> io::Result<Arc<dyn SegmentFile>> {
        let blocks_least = sector::blocks_for(record_bytes) + BLOCKS_BESIDE;
        let prepared = match std::mem::replace(&mut self.spare, Spare::None) {
            Spare::Ready(file) => Some(file),
            Spare::Coming(thread) => Some(
                thread
                    .join()
                    .map_err(|_| io::Error::other("the thread that makes segments panicked"))??,
            ),
            Spare::None if blocks_least <= self.usual_blocks => Some(self.spare_maker()()?),
            Spare::None => None,
        };
        if let Some(file) = prepared
            && blocks_in(file.bytes()?) >= blocks_least
        {
            return Ok(file);
        }
        let name = name(self.active.generation + 1);
        self.disk.create_segment(&name, bytes_in(blocks_least))
    }

    /// Goes on in the next segment, which has room for a record of `record_bytes`. Its header is durable before this one
    /// is sealed, and the seal before it is used: so a sealed segment without a successor is damage, and a successor of an
    /// unsealed one is only a prepared file.
    fn rotate(&mut self, record_bytes: usize, log: &Mutex<Log>) -> io::Result<()> {
        let file = self.next_file(record_bytes)?;
        // The chain in the new header is the seal's: the seal belongs to the old segment.
        sector::start_frame(&mut self.content);
        Record::Sealed.encode(&mut self.content);
        let place = self.place();
        let mut seal = Aligned::default();
        seal.resize(BLOCK);
        let sealed_chain = sector::seal_frame(&mut self.content, place, seal.bytes_mut());
        let generation = self.active.generation + 1;
        let ids = (self.cluster, self.member);
        let blocks = blocks_in(file.bytes()?);
        let level = log
            .lock()
            .expect("nothing panics while it holds the lock")
            .level;
        let carried = &self.carried;
        let chain = write_header(&file, ids, generation, blocks, sealed_chain, carried, level)?;
        self.active
            .file
            .write_durably(u64::from(place.block) * BLOCK as u64, &seal)?;
        self.active = Active {
            file: file.clone(),
            generation,
            blocks,
            next_block: 1,
            next_frame: 1,
            chain,
        };
        let mut log = log.lock().expect("nothing panics while it holds the lock");
        log.segments.insert(generation, file);
        Ok(())
    }
}

impl Drop for Writer {
    /// A segment that is still being made must not appear under a later opening of the log.
    fn drop(&mut self) {
        if let Spare::Coming(thread) = std::mem::replace(&mut self.spare, Spare::None) {
            // The next opening finds its outcome.
            let _ = thread.join();
        }
    }
}

fn bytes_of(record: &Record) -> usize {
    /// No other record is larger.
    const SMALL: usize = 32;
    match record {
        Record::Entry(entry) => record::entry_bytes(entry),
        Record::Peers(peers) => SMALL + peers.len() * record::PEER_BYTES,
        _ => SMALL,
    }
}
