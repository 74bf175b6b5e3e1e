//! [`PlannedWriter`]: divides the bytes of a new file into parts, without those that the storage copies.

use std::{
    collections::VecDeque,
    io::{self, Write},
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::{Bytes, BytesMut};
use object_store::PutPayload;
use parquet::errors::ParquetError;
use tokio::sync::mpsc;

use super::{
    RangeCopies,
    plan::{Piece, Plan, PlannedPart},
};
use crate::base_file::Sparse;

/// The column chunks that a new file has in common with the previous version. They are recorded before their
/// bytes are written, and these bytes are placeholders.
#[derive(Clone, Debug, Default)]
pub(crate) struct CommonChunks(Arc<Mutex<Noted>>);

#[derive(Debug, Default)]
struct Noted {
    chunks: VecDeque<CommonChunk>,
    /// The ranges of row groups whose chunks have a different order, each with its chunks in stored order.
    arranged: VecDeque<(Range<u64>, Vec<Range<u64>>)>,
}

#[derive(Debug)]
struct CommonChunk {
    /// The range in the new file.
    new: Range<u64>,
    /// The offset in the previous version.
    from: u64,
}

impl CommonChunks {
    /// Records that the bytes of the new file from offset `at` on are a range of the previous version.
    pub(crate) fn note(&self, at: u64, stored: Range<u64>) {
        let chunk = CommonChunk { new: at..at + (stored.end - stored.start), from: stored.start };
        self.lock().chunks.push_back(chunk);
    }

    /// Records the order in which the bytes of adjacent ranges are stored. These ranges are written next.
    pub(crate) fn arrange(&self, order: Vec<Range<u64>>) {
        let start = order.iter().map(|range| range.start).min();
        let end = order.iter().map(|range| range.end).max();
        if let Some((start, end)) = start.zip(end) {
            self.lock().arranged.push_back((start..end, order));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Noted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the piece that begins at an offset of the new file, with at most `bytes` bytes. Offsets must
    /// ascend from call to call.
    fn piece(&self, at: u64, bytes: u64) -> Piece {
        let chunks = &mut self.lock().chunks;
        while chunks.front().is_some_and(|chunk| chunk.new.end <= at) {
            chunks.pop_front();
        }
        match chunks.front() {
            Some(chunk) if chunk.new.contains(&at) => {
                let from = chunk.from + (at - chunk.new.start);
                Piece::stored(from..from + bytes.min(chunk.new.end - at))
            }
            Some(next) => Piece::fresh(bytes.min(next.new.start - at)),
            None => Piece::fresh(bytes),
        }
    }

    /// Returns the number of bytes until the next boundary of an arranged row group, and `true` if the offset
    /// is inside such a group.
    fn until_arranged(&self, at: u64) -> Option<(u64, bool)> {
        let noted = self.lock();
        let (group, _) = noted.arranged.front()?;
        let is_within = group.start <= at;
        Some((if is_within { group.end - at } else { group.start - at }, is_within))
    }

    /// Returns the order of the arranged row group that ends at an offset.
    fn end_group(&self, at: u64) -> Option<Vec<Range<u64>>> {
        let mut noted = self.lock();
        let ends = noted.arranged.front().is_some_and(|(group, _)| group.end == at);
        ends.then(|| noted.arranged.pop_front()).flatten().map(|(_, order)| order)
    }
}

/// A part of an upload.
#[derive(Debug)]
pub(super) enum Part {
    Sent(PutPayload),
    /// A range of the previous version.
    Copied(Range<u64>),
}

/// The writer of a new file. See the module.
pub(crate) struct PlannedWriter {
    plan: Plan,
    common: CommonChunks,
    /// The previous version.
    original: Sparse,
    /// The number of written bytes.
    at: u64,
    /// The written bytes whose part is not decided yet.
    fresh: BytesMut,
    /// The pieces of an arranged row group, ordered by offset, each with its fresh bytes.
    held: Vec<(u64, Piece, BytesMut)>,
    give: mpsc::Sender<Part>,
}

impl PlannedWriter {
    pub(super) fn new(
        copies: &RangeCopies,
        common: CommonChunks,
        original: Sparse,
        give: mpsc::Sender<Part>,
    ) -> Self {
        let plan = Plan::new(copies.inner.min_part(), copies.sent_part());
        Self { plan, common, original, at: 0, fresh: BytesMut::new(), held: Vec::new(), give }
    }

    /// Completes the file. Returns its size and its last part.
    pub(super) fn finish(mut self) -> io::Result<(u64, Option<Part>)> {
        let mut parts = self.plan.finish();
        let last = parts.pop();
        for part in parts {
            self.give(part)?;
        }
        let last = last.map(|part| self.content(part)).transpose().map_err(io::Error::other)?;
        Ok((self.at, last))
    }

    fn give(&mut self, part: PlannedPart) -> io::Result<()> {
        let part = self.content(part).map_err(io::Error::other)?;
        self.give.blocking_send(part).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    /// Adds the next bytes of the file.
    fn add(&mut self, piece: Piece, fresh: &[u8]) -> io::Result<()> {
        self.fresh.extend_from_slice(fresh);
        for part in self.plan.add(piece) {
            self.give(part)?;
        }
        Ok(())
    }

    /// Adds the bytes of a part. Fetches stored bytes that have not been read yet.
    fn content(&mut self, part: PlannedPart) -> Result<Part, ParquetError> {
        let pieces = match part {
            PlannedPart::Copied(range) => return Ok(Part::Copied(range)),
            PlannedPart::Sent(pieces) => pieces,
        };
        self.original.fetch(pieces.iter().filter_map(|piece| piece.range()).collect())?;
        let content = pieces.into_iter().map(|piece| match piece.range() {
            Some(range) => self.original.get(range.start, usize::try_from(piece.bytes())?),
            None => Ok(self.fresh.split_to(usize::try_from(piece.bytes())?).freeze()),
        });
        let content: Vec<Bytes> = content.collect::<Result<_, ParquetError>>()?;
        Ok(Part::Sent(content.into_iter().collect()))
    }
}

impl Write for PlannedWriter {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let arranged = self.common.until_arranged(self.at);
        let (most, is_arranged) = arranged.unwrap_or((u64::MAX, false));
        let piece = self.common.piece(self.at, most.min(buffer.len() as u64));
        let taken = usize::try_from(piece.bytes()).map_err(io::Error::other)?;
        let fresh = if piece.range().is_none() { &buffer[..taken] } else { &[] };
        if is_arranged {
            self.held.push((self.at, piece, fresh.into()));
        } else {
            self.add(piece, fresh)?;
        }
        self.at += piece.bytes();
        if is_arranged && let Some(order) = self.common.end_group(self.at) {
            let held = std::mem::take(&mut self.held);
            for range in order {
                let first = held.partition_point(|(at, ..)| *at < range.start);
                let mut of_range = held[first..].iter().take_while(|(at, ..)| *at < range.end);
                of_range.try_for_each(|(_, piece, fresh)| self.add(*piece, fresh))?;
            }
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
