//! Packing: which file group takes which new rows, so that files become neither many and small nor too big.

use std::collections::BTreeMap;

use super::{
    incoming::Incoming,
    tag::{Change, Edit, Tagged},
    tombstones::Deleted,
};
use crate::{
    index::IndexedFile,
    table::{FileIds, Table},
    view::View,
};

/// One base file to write.
#[derive(Debug)]
pub(crate) struct FileTask {
    pub(crate) partition: String,
    pub(crate) file_id: String,
    /// The version before, unless the file group is new.
    pub(crate) old: Option<IndexedFile>,
    /// Changes of its rows, by position.
    pub(crate) edits: Vec<Edit>,
    /// Incoming rows that come after its rows.
    pub(crate) appends: Vec<u32>,
    /// Whether the partition is new.
    pub(crate) opens_partition: bool,
}

impl FileTask {
    /// Rows of the new file.
    pub(crate) fn rows(&self) -> u64 {
        let old = self.old.as_ref().map_or(0, |file| file.footer.rows());
        old - self.dropped() + self.appends.len() as u64
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.edits.iter().filter(|edit| edit.change == Change::Drop).count() as u64
    }

    pub(crate) fn updated(&self) -> u64 {
        self.edits.len() as u64 - self.dropped()
    }
}

/// All files to write.
#[derive(Debug)]
pub(crate) struct Packed {
    pub(crate) tasks: Vec<FileTask>,
    pub(crate) deleted: Deleted,
}

/// Gives new rows to the files of their partition that are rewritten anyway, then to its small files, then to new
/// file groups.
pub(crate) fn pack(
    table: &Table,
    view: &View,
    tagged: Tagged,
    incoming: &Incoming,
    mut ids: FileIds,
) -> Packed {
    let Tagged { files, edits, new_rows, deleted } = tagged;
    let options = &table.inner.options;
    let bytes_per_row = bytes_per_row(&files, incoming);
    let mut tasks: BTreeMap<usize, FileTask> = BTreeMap::new();
    let task = |file: &IndexedFile| FileTask {
        partition: file.group.partition.clone(),
        file_id: file.group.file_id.clone(),
        old: Some(file.clone()),
        edits: Vec::new(),
        appends: Vec::new(),
        opens_partition: false,
    };
    for (index, edits) in edits {
        tasks.insert(index, FileTask { edits, ..task(&files[index]) });
    }
    let mut new_groups = Vec::new();
    for (partition, mut rows) in new_rows {
        // Rewritten files first: they cost nothing more. Then the emptiest, which is filled soonest.
        let mut small: Vec<(bool, u64, usize)> = files
            .iter()
            .enumerate()
            .filter(|(_, file)| file.group.partition == partition)
            .map(|(index, file)| (!tasks.contains_key(&index), data_bytes(file), index))
            .filter(|(_, bytes, _)| *bytes < options.small_file_bytes)
            .collect();
        small.sort_unstable();
        for (_, bytes, index) in small {
            let room = options.max_file_bytes.saturating_sub(bytes) / bytes_per_row;
            let taken = rows.len().min(usize::try_from(room).unwrap_or(usize::MAX));
            if taken > 0 {
                let into = tasks.entry(index).or_insert_with(|| task(&files[index]));
                into.appends.extend(rows.drain(..taken));
            }
        }
        let rows_per_file =
            usize::try_from(options.max_file_bytes / bytes_per_row).unwrap_or(usize::MAX).max(1);
        let mut opens_partition = !view.partitions.contains(&partition);
        for rows in rows.chunks(rows_per_file) {
            new_groups.push(FileTask {
                partition: partition.clone(),
                file_id: ids.draw(),
                old: None,
                edits: Vec::new(),
                appends: rows.to_vec(),
                opens_partition,
            });
            opens_partition = false;
        }
    }
    Packed { tasks: tasks.into_values().chain(new_groups).collect(), deleted }
}

/// The size of a file's rows: without its footer, of which the bloom filter is most in a small file.
fn data_bytes(file: &IndexedFile) -> u64 {
    let groups = file.footer.metadata().row_groups();
    groups.iter().map(|group| u64::try_from(group.compressed_size()).unwrap_or(0)).sum()
}

/// What a row takes: as the stored ones do, or, in an empty table, half of what it takes in memory.
fn bytes_per_row(files: &[IndexedFile], incoming: &Incoming) -> u64 {
    let (bytes, rows) = files
        .iter()
        .fold((0, 0), |(bytes, rows), file| (bytes + data_bytes(file), rows + file.footer.rows()));
    let in_memory = incoming.rows.get_array_memory_size() as u64 / incoming.rows.num_rows().max(1) as u64 / 2;
    // A handful of rows says little: most of their bytes are page headers.
    if rows >= 1_000 { (bytes / rows).max(1) } else { in_memory.max(16) }
}
