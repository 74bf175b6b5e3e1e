//! [`Plan`]: decides which parts of a file are copied and which are sent. It does no I/O.

use std::{collections::VecDeque, ops::Range};

/// Maximum size of a copied range on S3, in bytes.
const MAX_COPY: u64 = 5 * 1024 * 1024 * 1024;

/// Consecutive bytes of a new file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// The offset of the same bytes in the previous version. `None` if the previous version does not have
    /// them.
    from: Option<u64>,
    bytes: u64,
}

impl Piece {
    /// Creates bytes that the previous version does not have.
    pub(super) fn fresh(bytes: u64) -> Self {
        Self { from: None, bytes }
    }

    /// Creates bytes of a range of the previous version.
    pub(super) fn stored(range: Range<u64>) -> Self {
        Self { from: Some(range.start), bytes: range.end - range.start }
    }

    pub(super) fn bytes(self) -> u64 {
        self.bytes
    }

    /// Returns the range in the previous version. Returns `None` if the previous version does not have the
    /// bytes.
    pub(super) fn range(self) -> Option<Range<u64>> {
        self.from.map(|from| from..from + self.bytes)
    }

    /// Appends the next bytes if they directly follow in the previous version too, or if neither piece is in
    /// the previous version. Returns `false` otherwise.
    fn join(&mut self, next: Self) -> bool {
        let is_next = next.from == self.from.map(|from| from + self.bytes);
        if is_next {
            self.bytes += next.bytes;
        }
        is_next
    }

    /// Removes and returns the first bytes.
    fn take_first(&mut self, bytes: u64) -> Self {
        let first = Self { from: self.from, bytes };
        *self = Self { from: self.from.map(|from| from + bytes), bytes: self.bytes - bytes };
        first
    }

    /// Removes and returns the last bytes.
    fn take_last(&mut self, bytes: u64) -> Self {
        self.bytes -= bytes;
        Self { from: self.from.map(|from| from + self.bytes), bytes }
    }
}

/// A part of an upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PlannedPart {
    /// A range of the previous version.
    Copied(Range<u64>),
    /// Bytes that are sent, including some that the previous version has.
    Sent(Vec<Piece>),
}

/// Divides a file into parts while it is being written. Each part except the last has at least `min` bytes.
///
/// A run of stored bytes is copied if at least `min` of them remain after bytes of the run have padded the
/// parts before and after it to `min`. A gap is padded from the end of the run before it first.
#[derive(Debug)]
pub(super) struct Plan {
    min: u64,
    /// The size of sent parts. The last sent part of a gap is up to twice as large.
    sent: u64,
    /// A run that will be copied. Its end may still be needed as padding.
    run: Option<Piece>,
    /// The bytes after the run, or after the last planned part. They will be sent. Only a stored piece at the
    /// end may become part of the next run.
    gap: VecDeque<Piece>,
    gap_bytes: u64,
    parts: Vec<PlannedPart>,
}

impl Plan {
    pub(super) fn new(min: u64, sent: u64) -> Self {
        Self { min, sent, run: None, gap: VecDeque::new(), gap_bytes: 0, parts: Vec::new() }
    }

    /// Adds the next bytes of the file. Returns the parts that are decided.
    pub(super) fn add(&mut self, piece: Piece) -> Vec<PlannedPart> {
        if piece.bytes == 0 {
            return Vec::new();
        }
        if self.gap.is_empty() && self.run.as_mut().is_some_and(|run| run.join(piece)) {
            return Vec::new();
        }
        self.push(piece);
        self.begin_run();
        // A gap that needs no padding is sent while it grows. Bytes that may begin a run are kept back, and
        // so are enough bytes that the rest needs no padding either.
        let end = self.gap.back().filter(|last| last.from.is_some()).map_or(0, |last| last.bytes);
        while self.gap_bytes - end >= self.sent + self.min {
            self.copy_run();
            let part = self.take_gap(self.sent);
            self.parts.push(PlannedPart::Sent(part));
        }
        std::mem::take(&mut self.parts)
    }

    /// Ends the file. Returns the remaining parts.
    pub(super) fn finish(&mut self) -> Vec<PlannedPart> {
        self.copy_run();
        self.send_gap();
        std::mem::take(&mut self.parts)
    }

    fn push(&mut self, piece: Piece) {
        self.gap_bytes += piece.bytes;
        if !self.gap.back_mut().is_some_and(|last| last.join(piece)) {
            self.gap.push_back(piece);
        }
    }

    /// Makes the end of the gap a run if it is long enough.
    fn begin_run(&mut self) {
        let Some(mut next) = self.gap.back().copied().filter(|last| last.from.is_some()) else { return };
        let between = self.gap_bytes - next.bytes;
        let padding = if between == 0 { 0 } else { self.min.saturating_sub(between) };
        let before = self.run.map_or(0, |run| padding.min(run.bytes - self.min));
        if next.bytes < self.min + padding - before {
            return;
        }
        self.gap.pop_back();
        self.gap_bytes = between;
        if let Some(run) = self.run.as_mut().filter(|_| before > 0) {
            self.gap.push_front(run.take_last(before));
            self.gap_bytes += before;
        }
        if padding > before {
            self.push(next.take_first(padding - before));
        }
        self.copy_run();
        self.send_gap();
        self.run = Some(next);
    }

    /// Plans the run. Its end is not needed as padding.
    fn copy_run(&mut self) {
        let Some(range) = self.run.take().and_then(Piece::range) else { return };
        let mut start = range.start;
        while range.end - start > MAX_COPY {
            self.parts.push(PlannedPart::Copied(start..start + MAX_COPY / 2));
            start += MAX_COPY / 2;
        }
        self.parts.push(PlannedPart::Copied(start..range.end));
    }

    /// Plans the whole gap.
    fn send_gap(&mut self) {
        while self.gap_bytes > 0 {
            let bytes = if self.gap_bytes < 2 * self.sent { self.gap_bytes } else { self.sent };
            let part = self.take_gap(bytes);
            self.parts.push(PlannedPart::Sent(part));
        }
    }

    /// Removes and returns the first bytes of the gap.
    fn take_gap(&mut self, bytes: u64) -> Vec<Piece> {
        let (mut taken, mut left) = (Vec::new(), bytes);
        while left > 0
            && let Some(first) = self.gap.front_mut()
        {
            let piece = first.take_first(first.bytes.min(left));
            if first.bytes == 0 {
                self.gap.pop_front();
            }
            left -= piece.bytes;
            taken.push(piece);
        }
        self.gap_bytes -= bytes - left;
        taken
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIN: u64 = 50;
    const SENT: u64 = 80;

    fn planned(pieces: &[Piece]) -> Vec<PlannedPart> {
        let mut plan = Plan::new(MIN, SENT);
        let mut parts: Vec<PlannedPart> = pieces.iter().flat_map(|piece| plan.add(*piece)).collect();
        parts.extend(plan.finish());
        parts
    }

    fn bytes(part: &PlannedPart) -> u64 {
        match part {
            PlannedPart::Copied(range) => range.end - range.start,
            PlannedPart::Sent(pieces) => pieces.iter().map(|piece| piece.bytes).sum(),
        }
    }

    fn sent(parts: &[PlannedPart]) -> u64 {
        parts.iter().filter(|part| matches!(part, PlannedPart::Sent(_))).map(bytes).sum()
    }

    /// Joins pieces where possible.
    fn joined(pieces: impl IntoIterator<Item = Piece>) -> Vec<Piece> {
        let mut joined: Vec<Piece> = Vec::new();
        for piece in pieces.into_iter().filter(|piece| piece.bytes > 0) {
            if !joined.last_mut().is_some_and(|last| last.join(piece)) {
                joined.push(piece);
            }
        }
        joined
    }

    fn pieces_of(part: &PlannedPart) -> Vec<Piece> {
        match part {
            PlannedPart::Copied(range) => vec![Piece::stored(range.clone())],
            PlannedPart::Sent(pieces) => pieces.clone(),
        }
    }

    #[test]
    fn a_gap_is_padded_from_the_run_before_it_first() {
        let pieces = [Piece::stored(0..200), Piece::fresh(10), Piece::stored(300..360), Piece::fresh(5)];
        let sent = |pieces: &[Piece]| PlannedPart::Sent(pieces.to_vec());
        let padding = Piece::stored(160..200);
        let expected = [
            PlannedPart::Copied(0..160),
            sent(&[padding, Piece::fresh(10)]),
            PlannedPart::Copied(300..360),
            sent(&[Piece::fresh(5)]),
        ];
        assert_eq!(planned(&pieces), expected);
    }

    #[test]
    fn column_chunks_that_are_neighbours_in_both_files_are_one_copy() {
        let pieces =
            [Piece::stored(0..20), Piece::stored(20..45), Piece::stored(45..70), Piece::stored(90..95)];
        let expected = [PlannedPart::Copied(0..70), PlannedPart::Sent(vec![Piece::stored(90..95)])];
        assert_eq!(planned(&pieces), expected);
    }

    #[test]
    fn a_copy_has_at_most_five_gibibytes() {
        let parts = planned(&[Piece::stored(7..7 + 2 * MAX_COPY + 1)]);
        assert!(parts.iter().all(|part| (MIN..=MAX_COPY).contains(&bytes(part))), "{parts:?}");
        assert_eq!(parts.iter().map(bytes).sum::<u64>(), 2 * MAX_COPY + 1);
    }

    #[test]
    fn a_file_without_stored_bytes_is_sent_in_parts_of_the_usual_size() {
        let parts = planned(&[Piece::fresh(30); 20]);
        assert_eq!(parts.iter().map(bytes).collect::<Vec<_>>(), [80, 80, 80, 80, 80, 80, 120]);
    }

    fn pieces() -> impl Strategy<Value = Vec<Piece>> {
        let length = prop_oneof![3 => 1_u64..30, 2 => 30_u64..120, 1 => 120_u64..600];
        // A stored piece follows the previous one in the old file, or is separated from it by other bytes.
        let piece = (length, prop_oneof![Just(None), Just(Some(0)), (1_u64..9).prop_map(Some)]);
        proptest::collection::vec(piece, 0..40).prop_map(|pieces| {
            let mut at = 0;
            let piece = |(bytes, skipped): (u64, Option<u64>)| match skipped {
                None => Piece::fresh(bytes),
                Some(skipped) => {
                    at += skipped;
                    let piece = Piece::stored(at..at + bytes);
                    at += bytes;
                    piece
                }
            };
            pieces.into_iter().map(piece).collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn parts_are_the_file_and_large_enough_and_few_bytes_are_sent(pieces in pieces()) {
            let parts = planned(&pieces);
            let expected = joined(pieces.iter().copied());
            prop_assert_eq!(joined(parts.iter().flat_map(pieces_of)), expected.clone());
            for (number, part) in parts.iter().enumerate() {
                prop_assert!(bytes(part) >= MIN || number + 1 == parts.len(), "{:?}", parts);
                let is_sent = matches!(part, PlannedPart::Sent(_));
                prop_assert!(!is_sent || bytes(part) < 2 * SENT, "{:?}", parts);
            }
            // Each gap between runs is padded at most once. A run is sent only if it is too short to be
            // copied and also pad one gap.
            let is_run = |piece: &Piece| piece.from.is_some() && piece.bytes >= 2 * MIN;
            let runs = expected.iter().filter(|piece| is_run(piece)).count() as u64;
            let others: u64 = expected.iter().filter(|piece| !is_run(piece)).map(|piece| piece.bytes).sum();
            prop_assert!(sent(&parts) <= others + MIN * (runs + 1), "{} sent: {:?}", sent(&parts), parts);
        }

        /// The memory of an upload depends on the bytes that wait for a decision.
        #[test]
        fn few_fresh_bytes_wait_for_the_next_decision(pieces in pieces()) {
            let mut plan = Plan::new(MIN, SENT);
            for piece in pieces {
                // Writers pass on small buffers.
                let mut piece = piece;
                while piece.bytes > 0 {
                    let next = piece.take_first(piece.bytes.min(8));
                    plan.add(next);
                    let fresh = plan.gap.iter().filter(|piece| piece.from.is_none());
                    prop_assert!(fresh.map(|piece| piece.bytes).sum::<u64>() <= SENT + MIN + 8);
                }
            }
        }
    }
}
