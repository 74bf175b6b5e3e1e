//! The raw files that the commits of a table took in.

use std::collections::BTreeMap;

use hudi_scd::{
    SourceFile, Table,
    timeline::{Action, CommitMetadata},
};

/// Returns the number of commits that took in each file.
pub(crate) async fn commits_by_file(table: &Table) -> BTreeMap<SourceFile, usize> {
    let mut found = BTreeMap::new();
    for entry in table.timeline().await.unwrap().completed(Action::Commit) {
        let (path, bytes) = table.entry_file(entry).await.unwrap();
        for file in SourceFile::of_commit(&CommitMetadata::parse(&bytes, path).unwrap()).unwrap() {
            *found.entry(file).or_default() += 1;
        }
    }
    for entry in table.archived_entries().await.unwrap() {
        if entry.action_state.as_deref() != Some("COMPLETED") {
            continue;
        }
        let Some(texts) = entry.hoodie_commit_metadata.and_then(|commit| commit.extra_metadata) else {
            continue;
        };
        let Some(text) = texts.get(SourceFile::METADATA) else { continue };
        for (name, version) in serde_json::from_str::<Vec<(String, String)>>(text).unwrap() {
            *found.entry(SourceFile::new(name, version)).or_default() += 1;
        }
    }
    found
}
