//! Patches one data page: splits it into levels and values, replaces some values, and assembles it again.

use std::{collections::HashMap, ops::Range};

use parquet::{
    basic::{Encoding, Type as PhysicalType},
    schema::types::ColumnDescriptor,
};

use super::{
    bounds::{Bounds, Order},
    hybrid,
};

/// The properties of a column's type that affect its pages.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leaf {
    pub(super) order: Order,
    /// The length of a value in bytes. `None` if each value is preceded by its length.
    width: Option<usize>,
    is_optional: bool,
}

impl Leaf {
    /// Returns the properties of a column. Returns `None` if its pages are not patched.
    pub(super) fn of(column: &ColumnDescriptor) -> Option<Self> {
        if column.max_rep_level() > 0 || column.max_def_level() > 1 {
            return None;
        }
        let width = match column.physical_type() {
            PhysicalType::INT32 | PhysicalType::FLOAT => Some(4),
            PhysicalType::INT64 | PhysicalType::DOUBLE => Some(8),
            PhysicalType::FIXED_LEN_BYTE_ARRAY => {
                Some(usize::try_from(column.type_length()).ok().filter(|width| *width > 0)?)
            }
            PhysicalType::BYTE_ARRAY => None,
            PhysicalType::BOOLEAN | PhysicalType::INT96 => return None,
        };
        Some(Self { order: Order::of(column)?, width, is_optional: column.max_def_level() == 1 })
    }

    /// Returns a value without its length.
    fn content(self, value: &[u8]) -> &[u8] {
        if self.width.is_some() { value } else { value.get(4..).unwrap_or_default() }
    }

    fn cursor(self, values: &[u8]) -> Cursor<'_> {
        Cursor { leaf: self, values, rank: 0, start: 0 }
    }

    /// Splits a page of this number of rows.
    fn open(self, page: &[u8], rows: usize) -> Option<Taken<'_>> {
        if !self.is_optional {
            return Some(Taken { levels: &[], present: None, values: page, count: rows });
        }
        let (length, _) = page.split_first_chunk::<4>()?;
        let end = usize::try_from(u32::from_le_bytes(*length)).ok()?.checked_add(4)?;
        let (levels, values) = page.split_at_checked(end)?;
        let present = hybrid::decode(&levels[4..], 1, rows)?;
        let count = present.iter().filter(|level| **level == 1).count();
        Some(Taken { levels, present: (count < rows).then_some(present), values, count })
    }
}

/// Values in the form of plain pages.
#[derive(Debug, Default)]
pub(super) struct PlainValues {
    bytes: Vec<u8>,
    /// The position of each value. `None` for a null.
    places: Vec<Option<Range<u32>>>,
}

impl PlainValues {
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    pub(super) fn get(&self, row: usize) -> Option<&[u8]> {
        self.places[row].as_ref().map(|place| &self.bytes[place.start as usize..place.end as usize])
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Option<&[u8]>> {
        (0..self.len()).map(|row| self.get(row))
    }

    /// Adds all values of a plain page.
    pub(super) fn add_page(&mut self, leaf: Leaf, page: &[u8], rows: usize) -> Option<()> {
        let taken = leaf.open(page, rows)?;
        let mut cursor = leaf.cursor(taken.values);
        let start = self.bytes.len();
        self.bytes.extend_from_slice(taken.values);
        for row in 0..rows {
            let place = match taken.is_present(row) {
                true => {
                    let value = cursor.value(cursor.rank)?;
                    Some(u32::try_from(start + value.start).ok()?..u32::try_from(start + value.end).ok()?)
                }
                false => None,
            };
            self.places.push(place);
        }
        Some(())
    }
}

/// A split page.
struct Taken<'a> {
    /// The levels with their length, in stored form.
    levels: &'a [u8],
    /// 0 for each null, 1 for each value. `None` if there are no nulls.
    present: Option<Vec<u32>>,
    values: &'a [u8],
    /// The number of values that are not null.
    count: usize,
}

impl Taken<'_> {
    fn is_present(&self, row: usize) -> bool {
        self.present.as_ref().is_none_or(|present| present[row] == 1)
    }

    /// Returns, for each edit, the number of values before it.
    fn ranks(&self, edits: &[Replacement<'_>]) -> Vec<usize> {
        let Some(present) = &self.present else { return edits.iter().map(|edit| edit.row).collect() };
        let (mut row, mut rank) = (0, 0);
        let rank_of = |edit: &Replacement<'_>| {
            rank += present[row..edit.row].iter().sum::<u32>() as usize;
            row = edit.row;
            rank
        };
        edits.iter().map(rank_of).collect()
    }
}

/// A cursor over plain values, from the first to the last.
struct Cursor<'a> {
    leaf: Leaf,
    values: &'a [u8],
    /// The number of values before the cursor.
    rank: usize,
    start: usize,
}

impl Cursor<'_> {
    /// Returns the start of the value with this rank. Ranks must ascend.
    fn start(&mut self, rank: usize) -> Option<usize> {
        match self.leaf.width {
            Some(width) => self.start = rank.checked_mul(width)?,
            None => {
                for _ in self.rank..rank {
                    self.start = self.end()?;
                }
            }
        }
        self.rank = rank;
        (self.start <= self.values.len()).then_some(self.start)
    }

    /// Returns the end of the value that begins at the cursor.
    fn end(&self) -> Option<usize> {
        let end = match self.leaf.width {
            Some(width) => self.start.checked_add(width)?,
            None => {
                let length = self.values.get(self.start..)?.first_chunk::<4>()?;
                self.start.checked_add(4)?.checked_add(usize::try_from(u32::from_le_bytes(*length)).ok()?)?
            }
        };
        (end <= self.values.len()).then_some(end)
    }

    /// Returns the bytes of the value with this rank, and advances past it.
    fn value(&mut self, rank: usize) -> Option<Range<usize>> {
        let start = self.start(rank)?;
        let end = self.end()?;
        (self.start, self.rank) = (end, rank + 1);
        Some(start..end)
    }
}

/// A new value of a row, in the form of a plain page. `None` for null.
#[derive(Clone, Copy, Debug)]
pub(super) struct Replacement<'a> {
    /// The row's index in its page.
    pub(super) row: usize,
    pub(super) value: Option<&'a [u8]>,
}

/// The result of patching a page.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Unchanged,
    Patched(Patched),
}

/// A page with changed values.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Patched {
    pub(super) bytes: Vec<u8>,
    pub(super) nulls: usize,
    pub(super) bounds: Option<Bounds>,
}

/// A stored page, decompressed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stored<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) encoding: Encoding,
    pub(super) rows: usize,
    /// The bounds in its statistics.
    pub(super) bounds: Option<&'a Bounds>,
}

/// Replaces values. Their rows must ascend. Returns `None` if the page has an unsupported form.
pub(super) fn patch(
    leaf: Leaf,
    page: Stored<'_>,
    edits: &[Replacement<'_>],
    dictionary: Option<&mut Dictionary<'_>>,
) -> Option<Outcome> {
    let taken = leaf.open(page.bytes, page.rows)?;
    match (page.encoding, dictionary) {
        (Encoding::PLAIN, _) => patch_plain(leaf, page, &taken, edits),
        (Encoding::PLAIN_DICTIONARY | Encoding::RLE_DICTIONARY, Some(dictionary)) => {
            patch_places(leaf, page, &taken, edits, dictionary)
        }
        _ => None,
    }
}

fn patch_plain(
    leaf: Leaf,
    page: Stored<'_>,
    taken: &Taken<'_>,
    edits: &[Replacement<'_>],
) -> Option<Outcome> {
    let mut cursor = leaf.cursor(taken.values);
    let mut olds = Vec::with_capacity(edits.len());
    let mut differs = false;
    for (edit, rank) in edits.iter().zip(taken.ranks(edits)) {
        let is_present = taken.is_present(edit.row);
        let old =
            if is_present { cursor.value(rank)? } else { cursor.start(rank).map(|start| start..start)? };
        differs |= edit.value.is_some() != is_present
            || edit.value.unwrap_or_default() != &taken.values[old.clone()];
        olds.push(old);
    }
    if !differs {
        return Some(Outcome::Unchanged);
    }
    let more: usize = edits.iter().map(|edit| edit.value.map_or(0, <[u8]>::len)).sum();
    let mut bytes = Vec::with_capacity(page.bytes.len() + more + page.rows / 8);
    let (nulls, present) = write_levels(leaf, page, taken, edits, &mut bytes)?;
    let start = bytes.len();
    let mut next = 0;
    for (edit, old) in edits.iter().zip(&olds) {
        bytes.extend_from_slice(taken.values.get(next..old.start)?);
        bytes.extend_from_slice(edit.value.unwrap_or_default());
        next = old.end;
    }
    bytes.extend_from_slice(&taken.values[next..]);

    let gone = olds.iter().map(|old| &taken.values[old.clone()]).filter(|old| !old.is_empty());
    let bounds = bounds_without(leaf, page, gone, edits).or_else(|| {
        let mut bounds = None;
        let mut cursor = leaf.cursor(&bytes[start..]);
        for rank in 0..present {
            let value = cursor.value(rank)?;
            Bounds::widen(&mut bounds, leaf.content(&bytes[start..][value]), leaf.order);
        }
        Some(bounds)
    })?;
    Some(Outcome::Patched(Patched { bytes, nulls, bounds }))
}

fn patch_places(
    leaf: Leaf,
    page: Stored<'_>,
    taken: &Taken<'_>,
    edits: &[Replacement<'_>],
    dictionary: &mut Dictionary<'_>,
) -> Option<Outcome> {
    let (width, places) = match taken.values.split_first() {
        Some((width, places)) => (*width, places),
        None if taken.count == 0 => (0, taken.values),
        None => return None,
    };
    let places = hybrid::decode(places, width, taken.count)?;
    let ranks = taken.ranks(edits);
    let mut olds = Vec::with_capacity(edits.len());
    let mut differs = false;
    for (edit, rank) in edits.iter().zip(&ranks) {
        let old = match taken.is_present(edit.row) {
            true => Some(dictionary.value(*places.get(*rank)?)?),
            false => None,
        };
        differs |= edit.value != old;
        olds.push(old);
    }
    if !differs {
        return Some(Outcome::Unchanged);
    }
    let bounds = bounds_without(leaf, page, olds.iter().flatten().copied(), edits);
    let is_present: Vec<bool> = olds.iter().map(Option::is_some).collect();
    let mut patched = Vec::with_capacity(places.len() + edits.len());
    let mut next = 0;
    for ((edit, rank), is_present) in edits.iter().zip(ranks).zip(is_present) {
        patched.extend_from_slice(places.get(next..rank)?);
        if let Some(value) = edit.value {
            patched.push(dictionary.place(value)?);
        }
        next = rank + usize::from(is_present);
    }
    patched.extend_from_slice(places.get(next..)?);
    let bounds = match bounds {
        Some(bounds) => bounds,
        None => {
            let mut is_used = vec![false; dictionary.len()];
            for place in &patched {
                *is_used.get_mut(*place as usize)? = true;
            }
            let mut bounds = None;
            for place in (0..is_used.len()).filter(|place| is_used[*place]) {
                let value = dictionary.value(u32::try_from(place).ok()?)?;
                Bounds::widen(&mut bounds, leaf.content(value), leaf.order);
            }
            bounds
        }
    };
    let width = hybrid::width_for(dictionary.len());
    let mut bytes = Vec::with_capacity(page.bytes.len() + page.rows / 4);
    let (nulls, _) = write_levels(leaf, page, taken, edits, &mut bytes)?;
    bytes.push(width);
    hybrid::encode(&patched, width, &mut bytes);
    Some(Outcome::Patched(Patched { bytes, nulls, bounds }))
}

/// Returns the bounds of a page after its edits. Returns `None` if they cannot be determined without all of
/// its values.
#[allow(clippy::option_option, reason = "undetermined; or no bounds because all values are null")]
fn bounds_without<'a>(
    leaf: Leaf,
    page: Stored<'_>,
    mut gone: impl Iterator<Item = &'a [u8]>,
    edits: &[Replacement<'_>],
) -> Option<Option<Bounds>> {
    let known = page.bounds?;
    if gone.any(|old| known.rest_on(leaf.content(old), leaf.order)) {
        return None;
    }
    let mut bounds = Some(known.clone());
    for value in edits.iter().filter_map(|edit| edit.value) {
        Bounds::widen(&mut bounds, leaf.content(value), leaf.order);
    }
    Some(bounds)
}

/// Writes the levels of a page. Returns the numbers of nulls and of values.
fn write_levels(
    leaf: Leaf,
    page: Stored<'_>,
    taken: &Taken<'_>,
    edits: &[Replacement<'_>],
    out: &mut Vec<u8>,
) -> Option<(usize, usize)> {
    if edits.iter().all(|edit| edit.value.is_some() == taken.is_present(edit.row)) {
        out.extend_from_slice(taken.levels);
        return Some((page.rows - taken.count, taken.count));
    }
    if !leaf.is_optional {
        return None;
    }
    let mut present = taken.present.clone().unwrap_or_else(|| vec![1; page.rows]);
    for edit in edits {
        present[edit.row] = u32::from(edit.value.is_some());
    }
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    hybrid::encode(&present, 1, out);
    let length = u32::try_from(out.len() - start - 4).ok()?;
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
    let count = present.iter().filter(|level| **level == 1).count();
    Some((page.rows - count, count))
}

/// The dictionary of a column chunk. Pages refer to its values by index.
pub(super) struct Dictionary<'a> {
    /// Plain values.
    values: Vec<u8>,
    /// The position of each value.
    ranges: Vec<Range<usize>>,
    asked: &'a PlainValues,
    /// The indexes of those new values that are in the dictionary. Computed when the first of them is
    /// written.
    places: Option<HashMap<&'a [u8], Option<u32>>>,
    stored: usize,
}

impl<'a> Dictionary<'a> {
    /// Creates a stored dictionary with `count` values, for lookups of `asked`.
    pub(super) fn new(leaf: Leaf, values: &[u8], count: usize, asked: &'a PlainValues) -> Option<Self> {
        let mut cursor = leaf.cursor(values);
        let ranges = (0..count).map(|rank| cursor.value(rank)).collect::<Option<Vec<_>>>()?;
        Some(Self { values: values.to_vec(), stored: count, ranges, asked, places: None })
    }

    pub(super) fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Returns the plain values, if some were added to the stored ones.
    pub(super) fn grown(&self) -> Option<&[u8]> {
        (self.ranges.len() > self.stored).then_some(&self.values)
    }

    fn value(&self, place: u32) -> Option<&[u8]> {
        Some(&self.values[self.ranges.get(place as usize)?.clone()])
    }

    /// Returns the dictionary index of one of the values in `asked`.
    fn place(&mut self, value: &[u8]) -> Option<u32> {
        let asked = self.asked;
        let places = self.places.get_or_insert_with(|| {
            let mut places: HashMap<&[u8], Option<u32>> =
                asked.iter().flatten().map(|value| (value, None)).collect();
            for (place, range) in (0..).zip(&self.ranges) {
                if let Some(known) = places.get_mut(&self.values[range.clone()]) {
                    *known = Some(place);
                }
            }
            places
        });
        let known = places.get_mut(value)?;
        if known.is_none() {
            *known = Some(u32::try_from(self.ranges.len()).ok()?);
            let start = self.values.len();
            self.values.extend_from_slice(value);
            self.ranges.push(start..self.values.len());
        }
        *known
    }
}
