//! Packing: assigns new rows to file groups, so that there are neither many small files nor very large ones.

use std::collections::{BTreeMap, HashMap};

use crate::{
    beside::tombstones::Deleted,
    context::{Context, FileIds},
    index::IndexedFile,
    snapshot::View,
    write::decide::{
        changeset::Changeset,
        rows::{Appends, FileEdits},
    },
};

/// Approximate memory that a new row takes while its file is written, in bytes.
const ROW_BYTES: u64 = 1024;

/// A base file to write.
#[derive(Debug)]
pub(crate) struct FileTask {
    pub(crate) partition: String,
    pub(crate) file_id: String,
    /// The previous version, unless the file group is new.
    pub(crate) old: Option<IndexedFile>,
    /// The changes of its stored rows.
    pub(crate) edits: FileEdits,
    /// Incoming rows to append.
    pub(crate) appends: Appends,
    /// `true` if the partition is new.
    pub(crate) opens_partition: bool,
}

impl FileTask {
    /// Returns the number of rows in the new file.
    pub(crate) fn rows(&self) -> u64 {
        let old = self.old.as_ref().map_or(0, |file| file.footer.rows());
        old - self.edits.dropped + self.appends.rows()
    }

    /// Estimates the memory needed to write the file, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        let old = self.old.as_ref().map_or(0, |file| file.version().bytes);
        old + ROW_BYTES * (self.appends.rows() + self.edits.updated)
    }
}

/// All files to write.
#[derive(Debug)]
pub(crate) struct Packed {
    pub(crate) tasks: Vec<FileTask>,
    pub(crate) deleted: Deleted,
}

/// Assigns new rows first to the files of their partition that are rewritten anyway, then to small files, and
/// then to new file groups.
pub(crate) fn pack(context: &Context, view: &View, changes: Changeset, mut ids: FileIds) -> Packed {
    let options = context.options();
    let bytes_per_row = bytes_per_row(&changes);
    let Changeset { files, edits, new_rows, deleted, .. } = changes;
    let mut tasks: BTreeMap<usize, FileTask> = BTreeMap::new();
    let task = |file: &IndexedFile| FileTask {
        partition: file.group.partition.to_string(),
        file_id: file.group.file_id.to_string(),
        old: Some(file.clone()),
        edits: FileEdits::default(),
        appends: Appends::None,
        opens_partition: false,
    };
    for (index, edits) in edits {
        tasks.insert(index, FileTask { edits, ..task(&files[index]) });
    }
    let rows_per_file = (options.max_file_bytes / bytes_per_row).max(1);
    let mut new_groups = Vec::new();
    let sizes = files.iter().enumerate().filter(|(_, file)| new_rows.contains_key(&*file.group.partition));
    let sizes = sizes.map(|(index, file)| (&*file.group.partition, file.footer.data_bytes(), index));
    let mut small = small_files(sizes, options.small_file_bytes);
    for (partition, mut rows) in new_rows {
        let mut small = small.remove(partition.as_str()).unwrap_or_default();
        // Files that are rewritten anyway come first, because adding rows to them costs nothing extra. The
        // smallest files come next, because they are filled soonest.
        small.sort_unstable_by_key(|(bytes, index)| (!tasks.contains_key(index), *bytes, *index));
        for (bytes, index) in small {
            let taken = rows.take(options.max_file_bytes.saturating_sub(bytes) / bytes_per_row);
            if taken.rows() > 0 {
                tasks.entry(index).or_insert_with(|| task(&files[index])).appends = taken;
            }
        }
        let mut opens_partition = !view.partitions.contains(&partition);
        while rows.rows() > 0 {
            new_groups.push(FileTask {
                partition: partition.clone(),
                file_id: ids.draw(),
                old: None,
                edits: FileEdits::default(),
                appends: rows.take(rows_per_file),
                opens_partition,
            });
            opens_partition = false;
        }
    }
    Packed { tasks: tasks.into_values().chain(new_groups).collect(), deleted }
}

/// Returns the sizes and indexes of small files by partition. Goes over all files only once.
fn small_files<'a>(
    files: impl IntoIterator<Item = (&'a str, u64, usize)>,
    limit: u64,
) -> HashMap<&'a str, Vec<(u64, usize)>> {
    let mut small: HashMap<&str, Vec<(u64, usize)>> = HashMap::new();
    for (partition, bytes, index) in files.into_iter().filter(|(_, bytes, _)| *bytes < limit) {
        small.entry(partition).or_default().push((bytes, index));
    }
    small
}

/// Returns the number of bytes per row: as in the stored files or, in an empty table, half of a row's size in
/// memory.
fn bytes_per_row(changes: &Changeset) -> u64 {
    let sizes = changes.files.iter().map(|file| (file.footer.data_bytes(), file.footer.rows()));
    let (bytes, rows) = sizes.fold((0, 0), |(bytes, rows), (more, of)| (bytes + more, rows + of));
    // A few rows give a poor estimate, because most of their bytes are page headers.
    if rows >= 1_000 { (bytes / rows).max(1) } else { (changes.row_bytes / 2).max(16) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Searching all files for each partition would inspect 1,000 times as many.
    #[test]
    fn each_file_is_looked_at_once_however_many_partitions_get_rows() {
        let partitions: Vec<String> = (0..1_000).map(|number| format!("day={number}")).collect();
        let mut looked_at = 0;
        let files = (0..10_000).map(|index| {
            looked_at += 1;
            (partitions[index % 1_000].as_str(), index as u64 / 100, index)
        });
        let mut small = small_files(files, 50);
        assert_eq!(looked_at, 10_000);
        let visited: usize = partitions.iter().map(|path| small.remove(path.as_str()).unwrap().len()).sum();
        assert_eq!((visited, small.len()), (5_000, 0));
    }
}
