//! Reads a log back: everything that was acknowledged, or a refusal that says what is wrong. Never less.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use super::carried::Carried;
use super::disk::{Aligned, Disk, SegmentFile};
use super::identity::{self, Identity};
use super::log::{FrameAt, Log};
use super::options::Options;
use super::record::{Cursor, Header, Record, Unreadable};
use super::sector::{self, BLOCK, Found, Place};
use super::writer::{Active, Spare, Writer, name};
use crate::command::Fault;

/// The outcome of reading a log from disk.
pub(super) struct Recovered {
    pub(super) identity: Identity,
    pub(super) log: Log,
    pub(super) writer: Writer,
}

struct Reader<'a> {
    disk: &'a Arc<dyn Disk>,
    identity: Identity,
    log: Log,
    carried: Carried,
    /// Entries up to here stood in segments that are gone.
    missing_until: Option<u64>,
}

/// A segment as it was found.
struct Segment {
    file: Arc<dyn SegmentFile>,
    header: Header,
    sealed: bool,
    next_block: u32,
    next_frame: u32,
    chain: u32,
}

impl Segment {
    fn is_fresh(&self) -> bool {
        self.next_frame == 1
    }
}

pub(super) fn recover(disk: &Arc<dyn Disk>, options: Options) -> Result<Recovered, Fault> {
    let io = |path: &str| {
        let path: PathBuf = disk.place().join(path);
        move |source| Fault::Io { path, source }
    };
    let Some(bytes) = disk
        .read_small(identity::FILE)
        .map_err(io(identity::FILE))?
    else {
        return Err(damaged(disk, identity::FILE, None, "the file is missing"));
    };
    let identity =
        Identity::decode(bytes).map_err(|why| unreadable(disk, identity::FILE, None, why))?;
    let mut generations = VecDeque::new();
    for found in disk.names().map_err(io(""))? {
        if found.ends_with(".tmp") {
            disk.remove(&found).map_err(io(&found))?;
        } else if let Some(generation) = found.strip_suffix(".wal") {
            let generation = u64::from_str_radix(generation, 16);
            generations.push_back(generation.map_err(|_| {
                damaged(disk, &found, None, "its name is not that of a log segment")
            })?);
        }
    }
    generations.make_contiguous().sort_unstable();
    let mut reader = Reader {
        disk,
        identity,
        log: Log::new(options.recent_bytes_max),
        carried: Carried::default(),
        missing_until: None,
    };
    let (active, spare) = reader.segments(generations)?;
    reader.check_start()?;
    let Reader {
        identity,
        mut log,
        carried,
        ..
    } = reader;
    log.vote = carried.vote;
    log.committed = carried.committed;
    log.peers = carried.peers.clone();
    let ids = (identity.cluster, identity.member);
    let writer = Writer::new(disk.clone(), ids, (active, spare), carried, options);
    Ok(Recovered {
        identity,
        log,
        writer,
    })
}

fn damaged(disk: &Arc<dyn Disk>, file: &str, at: Option<u64>, why: &str) -> Fault {
    let path = disk.place().join(file);
    let what = match at {
        Some(offset) => format!("{} at byte {offset}", path.display()),
        None => path.display().to_string(),
    };
    Fault::irreparable(what, why)
}

fn unreadable(disk: &Arc<dyn Disk>, file: &str, at: Option<u64>, why: Unreadable) -> Fault {
    match why {
        Unreadable::Newer(unknown) => Fault::Newer {
            place: disk.place().join(file).display().to_string(),
            unknown,
        },
        Unreadable::Wrong(why) => damaged(disk, file, at, why),
    }
}

impl Reader<'_> {
    fn damaged(&self, generation: u64, block: u32, why: &str) -> Fault {
        let offset = u64::from(block) * BLOCK as u64;
        damaged(self.disk, &name(generation), Some(offset), why)
    }

    fn io(&self, generation: u64) -> impl FnOnce(std::io::Error) -> Fault {
        let path = self.disk.place().join(name(generation));
        move |source| Fault::Io { path, source }
    }

    /// Reads all segments in order.
    fn segments(&mut self, generations: VecDeque<u64>) -> Result<(Active, Spare), Fault> {
        let mut previous: Option<(u64, Segment)> = None;
        let mut spare = Spare::None;
        let count = generations.len();
        for (place, generation) in generations.into_iter().enumerate() {
            let is_last = place + 1 == count;
            if let Some((before, _)) = &previous
                && generation != before + 1
            {
                return Err(damaged(
                    self.disk,
                    &name(before + 1),
                    None,
                    "the file is missing",
                ));
            }
            let unsealed = previous
                .as_ref()
                .is_some_and(|(_, segment)| !segment.sealed);
            let file = self
                .disk
                .open_segment(&name(generation))
                .map_err(self.io(generation))?;
            let found = self.segment(generation, &file, previous.as_ref(), unsealed)?;
            if unsealed {
                // Prepared for a rotation that was never completed, or damage.
                if is_last && found.is_none_or(|segment| segment.is_fresh()) {
                    spare = Spare::Ready(file);
                    break;
                }
                let why = "a later segment is in use, but this one has no end";
                return Err(self.damaged(generation - 1, 0, why));
            }
            let Some(segment) = found else {
                return Err(self.damaged(generation, 0, "the segment has no header"));
            };
            self.log.segments.insert(generation, file);
            previous = Some((generation, segment));
        }
        let Some((generation, segment)) = previous else {
            return Err(damaged(
                self.disk,
                &name(1),
                None,
                "there is no log segment",
            ));
        };
        if segment.sealed {
            return Err(damaged(
                self.disk,
                &name(generation + 1),
                None,
                "the file is missing",
            ));
        }
        let active = Active {
            file: segment.file,
            generation,
            blocks: segment.header.blocks,
            next_block: segment.next_block,
            next_frame: segment.next_frame,
            chain: segment.chain,
        };
        Ok((active, spare))
    }

    /// Reads one segment and follows its records; `None` if not even its header was written. One that may be a prepared
    /// file (`maybe_spare`) is looked at only.
    fn segment(
        &mut self,
        generation: u64,
        file: &Arc<dyn SegmentFile>,
        previous: Option<&(u64, Segment)>,
        maybe_spare: bool,
    ) -> Result<Option<Segment>, Fault> {
        let bytes = file.bytes().map_err(self.io(generation))?;
        let blocks = u32::try_from(bytes / BLOCK as u64).unwrap_or(u32::MAX);
        let cut = "the file does not have its whole length";
        if bytes % BLOCK as u64 != 0 || blocks < 3 {
            return Err(self.damaged(generation, blocks, cut));
        }
        let content = file.read(0, bytes as usize).map_err(self.io(generation))?;
        let mut place = Place {
            generation,
            frame: 0,
            block: 0,
            chain: 0,
        };
        let header = match sector::find(&content, place) {
            Found::Frame {
                records,
                blocks,
                chain,
            } => {
                place = Place {
                    generation,
                    frame: 1,
                    block: blocks,
                    chain,
                };
                Header::decode(Bytes::from(records))
                    .map_err(|why| unreadable(self.disk, &name(generation), Some(0), why))?
            }
            Found::Unfinished => {
                let (later, _) = sector::written_beyond(&content, place);
                if later {
                    return Err(self.damaged(generation, 0, "the header is not what was written"));
                }
                return Ok(None);
            }
            Found::Damaged(why) => return Err(self.damaged(generation, 0, why)),
        };
        self.check_header(&header, generation, blocks, previous, maybe_spare)?;
        if previous.is_none() {
            self.carried = Carried {
                vote: header.vote,
                committed: header.committed,
                purged: header.purged,
                last: header.last,
                peers: header.peers.clone(),
            };
            self.log.purged = header.purged;
            self.log.last = header.last;
            self.missing_until = header.last.map(|last| last.index);
        }
        let mut segment = Segment {
            file: file.clone(),
            header,
            sealed: false,
            next_block: 0,
            next_frame: 0,
            chain: 0,
        };
        while !segment.sealed {
            let rest = &content[place.block as usize * BLOCK..];
            match sector::find(rest, place) {
                Found::Frame {
                    records,
                    blocks,
                    chain,
                } => {
                    if !maybe_spare {
                        segment.sealed = self.frame(place, blocks, Bytes::from(records))?;
                    }
                    place.block += blocks;
                    place.frame += 1;
                    place.chain = chain;
                }
                Found::Unfinished => {
                    let (later, torn) = sector::written_beyond(rest, place);
                    if later {
                        let why = "a frame is gone that others follow";
                        return Err(self.damaged(generation, place.block, why));
                    }
                    if !maybe_spare {
                        self.erase(file, place, torn)?;
                    }
                    break;
                }
                Found::Damaged(why) => return Err(self.damaged(generation, place.block, why)),
            }
        }
        segment.next_block = place.block;
        segment.next_frame = place.frame;
        segment.chain = place.chain;
        Ok(Some(segment))
    }

    fn check_header(
        &self,
        header: &Header,
        generation: u64,
        blocks: u32,
        previous: Option<&(u64, Segment)>,
        maybe_spare: bool,
    ) -> Result<(), Fault> {
        let wrong = |why| Err(self.damaged(generation, 0, why));
        if header.blocks != blocks {
            return wrong("the file does not have its whole length");
        }
        if header.generation != generation {
            return wrong("the segment belongs under another name");
        }
        if (header.cluster, header.member) != (self.identity.cluster, self.identity.member) {
            return wrong("the segment is another member's");
        }
        if let Some((_, before)) = previous
            && !maybe_spare
            && before.chain != header.previous_chain
        {
            return wrong("the segment does not follow the one before it");
        }
        Ok(())
    }

    /// Follows the records of one frame; whether it was the seal.
    fn frame(&mut self, place: Place, blocks: u32, records: Bytes) -> Result<bool, Fault> {
        let mut cursor = Cursor(records);
        let mut at: Option<FrameAt> = None;
        let mut sealed = false;
        while !cursor.is_empty() {
            let unknown = "a record is unknown to this version";
            let record = cursor
                .record()
                .ok_or_else(|| self.damaged(place.generation, place.block, unknown))?;
            match &record {
                Record::Entry(entry) => {
                    if !self.log.accepts(entry) {
                        let why = "an entry does not follow the one before it";
                        return Err(self.damaged(place.generation, place.block, why));
                    }
                    at.get_or_insert(FrameAt {
                        first: entry.position.index,
                        generation: place.generation,
                        frame: place.frame,
                        block: place.block,
                        blocks,
                    });
                    self.log.append(entry.clone());
                }
                Record::Truncate(to) => {
                    self.log.truncate(*to);
                    self.log.frames_truncated(*to);
                    let kept = to.map(|to| to.index);
                    self.missing_until = self.missing_until.min(kept);
                }
                Record::Purge(to) => {
                    self.log.purge(*to);
                    let last = self.log.last.filter(|last| last.index > to.index);
                    self.log.frames_purged(*to, last);
                }
                Record::Sealed => sealed = true,
                Record::Vote(_) | Record::Committed(_) | Record::Peers(_) => {}
            }
            self.carried.follow(&record);
        }
        let end = self.log.last.map(|last| last.index + 1);
        self.log.frame_written(at, end);
        Ok(sealed)
    }

    /// Makes a torn tail look as if it had never been begun, so that a second torn write at the same place cannot mix
    /// with the first.
    fn erase(&self, file: &Arc<dyn SegmentFile>, place: Place, blocks: u32) -> Result<(), Fault> {
        if blocks == 0 {
            return Ok(());
        }
        tracing::info!(
            segment = name(place.generation),
            offset = u64::from(place.block) * BLOCK as u64,
            "the newest write of the log was not completed and is dropped; nobody was told that it was",
        );
        let mut buffer = Aligned::default();
        buffer.resize(blocks as usize * BLOCK);
        sector::blank(buffer.bytes_mut(), place.block);
        file.write_durably(u64::from(place.block) * BLOCK as u64, &buffer)
            .map_err(self.io(place.generation))
    }

    /// Entries that the oldest segment follows must have been purged.
    fn check_start(&self) -> Result<(), Fault> {
        let purged = self.log.purged.map(|purged| purged.index);
        if self.missing_until > purged {
            let oldest = self.log.segments.keys().next().copied().unwrap_or(1);
            let why = "the file is missing, and entries in it are still needed";
            return Err(damaged(
                self.disk,
                &name(oldest.saturating_sub(1)),
                None,
                why,
            ));
        }
        Ok(())
    }
}
