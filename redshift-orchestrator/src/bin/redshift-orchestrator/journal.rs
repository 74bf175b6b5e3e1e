//! The journal that a command uses.

use std::{path::Path, sync::Arc};

use redshift_orchestrator::{
    Error, ErrorKind, Result,
    journal::{FileJournal, Journal, RunEntry},
};

/// A journal to write to. With `queue` another process that uses it is waited for.
pub(crate) async fn open(place: &str, queue: bool) -> Result<Arc<dyn Journal>> {
    if is_url(place) {
        return Err(unsupported(place));
    }
    match queue {
        true => FileJournal::open_when_free(place).await.map(shared),
        false => FileJournal::open(place).map(shared),
    }
}

/// A journal that must be there, to write to.
pub(crate) async fn open_existing(place: &str) -> Result<Arc<dyn Journal>> {
    exists(place)?;
    open(place, false).await
}

/// A journal to look at, also while another process uses it.
pub(crate) async fn look(place: &str) -> Result<Arc<dyn Journal>> {
    if is_url(place) {
        return Err(unsupported(place));
    }
    exists(place)?;
    FileJournal::open_read_only(place).map(shared)
}

fn shared(journal: impl Journal + 'static) -> Arc<dyn Journal> {
    Arc::new(journal)
}

fn is_url(place: &str) -> bool {
    place.contains("://")
}

fn exists(place: &str) -> Result<()> {
    if is_url(place) || Path::new(place).exists() {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Invalid,
        "there is no journal; has the pipeline run, or is it elsewhere (--journal)?",
    )
    .with_context("journal", place))
}

fn unsupported(place: &str) -> Error {
    Error::new(ErrorKind::Invalid, "a journal is a file, or `s3://BUCKET/PREFIX`")
        .with_context("journal", place)
}

/// The run of this name, or, without one, the last that `wanted` wants.
pub(crate) async fn find_run(
    journal: &dyn Journal,
    name: Option<&str>,
    wanted: impl Fn(&RunEntry) -> bool,
    otherwise: &str,
) -> Result<RunEntry> {
    let runs = journal.runs().await?;
    match name {
        Some(name) => runs.into_iter().find(|run| run.run == name).ok_or_else(|| {
            Error::new(ErrorKind::Invalid, "the journal knows no run of this id; `status` lists them")
                .with_context("run", name)
        }),
        None => runs
            .into_iter()
            .filter(|run| wanted(run))
            .max_by_key(|run| run.begun_at)
            .ok_or_else(|| Error::new(ErrorKind::Invalid, otherwise)),
    }
}
