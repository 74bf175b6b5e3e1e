//! [`PlannedWriter`]: divides the bytes of a new file into parts, without those that the storage copies.

use std::{
    collections::VecDeque,
    io::{self, Write},
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
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

/// The column chunks that a new file has in common with the previous version. They are noted before their
/// bytes are written, and these bytes are placeholders.
#[derive(Clone, Debug, Default)]
pub(crate) struct CommonChunks(Arc<Mutex<VecDeque<CommonChunk>>>);

#[derive(Debug)]
struct CommonChunk {
    /// The range in the new file.
    new: Range<u64>,
    /// The offset in the previous version.
    from: u64,
}

impl CommonChunks {
    /// Notes that the bytes from offset `at` on of the new file are a range of the previous version.
    pub(crate) fn note(&self, at: u64, stored: Range<u64>) {
        let chunk = CommonChunk { new: at..at + (stored.end - stored.start), from: stored.start };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(chunk);
    }

    /// Returns the piece that begins at an offset of the new file, up to `bytes` bytes of it. The offsets
    /// ascend from call to call.
    fn piece(&self, at: u64, bytes: u64) -> Piece {
        let mut chunks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
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
}

/// A part of an upload.
#[derive(Debug)]
pub(super) enum Part {
    Sent(PutPayload),
    /// A range of the previous version.
    Copied(Range<u64>),
}

/// See the module.
pub(crate) struct PlannedWriter {
    plan: Plan,
    common: CommonChunks,
    /// The previous version.
    original: Sparse,
    /// The number of written bytes.
    at: u64,
    /// The written bytes that are not part of a decided part.
    fresh: BytesMut,
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
        Self { plan, common, original, at: 0, fresh: BytesMut::new(), give }
    }

    /// Ends the file. Returns its bytes and its last part.
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

    /// Adds its bytes to a part. Stored bytes that were not read before are fetched.
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
        let piece = self.common.piece(self.at, buffer.len() as u64);
        let taken = usize::try_from(piece.bytes()).map_err(io::Error::other)?;
        if piece.range().is_none() {
            self.fresh.extend_from_slice(&buffer[..taken]);
        }
        self.at += piece.bytes();
        for part in self.plan.add(piece) {
            self.give(part)?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
