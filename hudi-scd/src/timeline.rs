//! The timeline: the actions on a table, with their times and states.

pub(crate) mod archived;
pub(crate) mod history;

use object_store::ObjectStore;

pub use hudi_format::timeline::*;

pub use crate::clock::{Clock, FnClock, SystemClock};
use crate::{
    Result,
    layout::{self, Layout, TimelineLayout},
    storage,
};

/// Lists the timeline. Other files in the folder are ignored.
pub(crate) async fn load(store: &dyn ObjectStore, table: &Layout) -> Result<Timeline> {
    let folder = table.timeline_folder()?;
    let listed = storage::list_folder(store, &folder).await?;
    let paths = || listed.objects.iter().map(|object| &object.location);
    let checksums = paths().filter(|path| path.filename().is_some_and(layout::is_local_checksum));
    let checksums = checksums.map(|path| table.relative(path).to_owned()).collect();
    let names = paths().filter_map(|path| path.filename());
    let timeline = match table.timeline() {
        TimelineLayout::Flat => Timeline::from_file_names(names),
        TimelineLayout::Folder { .. } => Timeline::from_timed_file_names(names),
    };
    let folders = listed.common_prefixes.iter().filter_map(|folder| folder.filename()).map(str::to_owned);
    let others = paths().filter_map(|path| path.filename());
    let others = others.filter(|name| layout::parse_instant_file_name(name).is_none()).map(str::to_owned);
    Ok(timeline.with_checksums(checksums).with_neighbours(folders.collect(), others.collect()))
}
