//! An embedded PostgreSQL server that runs in this process, with its data in the directory of the run. It is
//! killed with the process, and recovers from its directory at the next start like any PostgreSQL server.

use std::path::Path;

use anyhow::{Context, Result};
use pglite_oxide::PgliteServer;

/// A running server. It accepts one connection at a time.
pub(crate) struct Embedded(PgliteServer);

impl Embedded {
    /// Starts the server with its data in `dir`, which is created if necessary.
    pub(crate) async fn start(dir: &Path) -> Result<Self> {
        let root = dir.to_owned();
        let start = move || PgliteServer::builder().path(root).start();
        let server = tokio::task::spawn_blocking(start)
            .await?
            .with_context(|| format!("starting the embedded PostgreSQL in {}", dir.display()))?;
        Ok(Self(server))
    }

    /// Returns the server's connection URL.
    pub(crate) fn url(&self) -> String {
        self.0.database_url()
    }

    /// Stops the server. Its connection must be closed first.
    pub(crate) async fn stop(self) -> Result<()> {
        tokio::task::spawn_blocking(move || self.0.shutdown())
            .await?
            .context("stopping the embedded PostgreSQL")
    }
}
