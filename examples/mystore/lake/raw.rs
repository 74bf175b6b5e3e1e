//! Raw files: the customers and addresses of a cycle, as the sources deliver them. They are in the folder `raw`
//! beside the tables.

use anyhow::Result;
use arrow::array::RecordBatch;
use futures::{Stream, StreamExt, stream};
use hudi_scd::{Error, ErrorKind, SourceFile};
use object_store::{ObjectStore, ObjectStoreExt, PutMode, path::Path};
use serde::Serialize;

use super::{Place, batch};
use crate::{
    changes::Cycle,
    domain::{Address, Change, Customer},
};

/// Folder of the files.
const FOLDER: &str = "raw";
/// Beginnings of the files' names.
const CUSTOMER: &str = "customer-";
const ADDRESS: &str = "address-";

/// Stores the files of a cycle unless they exist.
pub(super) async fn land(place: &Place, cycle: &Cycle) -> Result<()> {
    put(place, &format!("{CUSTOMER}{}.json", cycle.number), &cycle.customers).await?;
    put(place, &format!("{ADDRESS}{}.json", cycle.number), &cycle.addresses).await
}

async fn put<T: Serialize>(place: &Place, name: &str, changes: &[Change<T>]) -> Result<()> {
    let bytes = serde_json::to_vec(changes)?;
    match place.store.put_opts(&path(place, name), bytes.into(), PutMode::Create.into()).await {
        Err(object_store::Error::AlreadyExists { .. }) => Ok(()),
        put => Ok(put.map(drop)?),
    }
}

fn path(place: &Place, name: &str) -> Path {
    place.path(FOLDER).join(name)
}

/// Describes files. A name is never used again, so every file has the same version.
pub(super) fn described(names: &[String]) -> Vec<SourceFile> {
    names.iter().map(|name| SourceFile::new(name, "1")).collect()
}

/// Reads the changes in files, one batch for each.
pub(super) fn rows(
    place: Place,
    files: Vec<SourceFile>,
) -> impl Stream<Item = hudi_scd::Result<RecordBatch>> + Send {
    stream::iter(files).then(move |file| {
        let place = place.clone();
        async move { read(&place, &file.name).await.map_err(|error| unreadable(&file.name, &error)) }
    })
}

async fn read(place: &Place, name: &str) -> Result<RecordBatch> {
    let bytes = place.store.get(&path(place, name)).await?.bytes().await?;
    Ok(match name.starts_with(ADDRESS) {
        true => batch::addresses(&serde_json::from_slice::<Vec<Change<Address>>>(&bytes)?),
        false => batch::customers(&serde_json::from_slice::<Vec<Change<Customer>>>(&bytes)?),
    })
}

fn unreadable(name: &str, error: &anyhow::Error) -> Error {
    Error::new(ErrorKind::Storage, format!("the raw file {name} cannot be read: {error:#}"))
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt;

    use super::*;
    use crate::changes::Changes;

    #[tokio::test]
    async fn files_keep_their_first_content_and_are_read_back() {
        let temporary = tempfile::tempdir().unwrap();
        let place = Place::on_disk(temporary.path()).unwrap();
        let early =
            rows(place.clone(), described(&["customer-1.json".to_owned()])).try_collect::<Vec<_>>().await;
        assert!(early.is_err() && !temporary.path().join(FOLDER).exists(), "a read creates no directory");
        let changes = Changes::generate(0.001, 1, 1).unwrap();
        let cycle = &changes.cycles[1];
        land(&place, cycle).await.unwrap();
        land(&place, &Cycle { number: 1, ..Cycle::default() }).await.unwrap();
        let files = described(&["customer-1.json".to_owned(), "address-1.json".to_owned()]);
        let found: Vec<_> = rows(place.clone(), files).try_collect().await.unwrap();
        assert_eq!(found, [batch::customers(&cycle.customers), batch::addresses(&cycle.addresses)]);
        let missing = rows(place, described(&["customer-2.json".to_owned()])).try_collect::<Vec<_>>().await;
        assert!(missing.unwrap_err().to_string().contains("customer-2.json"));
    }
}
