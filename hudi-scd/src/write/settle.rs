//! Settling: determines the outcome of a commit if its writer did not receive a response.

use super::rollback;
use crate::{
    Error, ErrorKind, Result,
    table::{Table, Turn},
    timeline::Instant,
};

impl Table {
    /// Returns `true` if the commit with the instant of an [`ErrorKind::Unknown`] has completed. A commit
    /// that did not complete is rolled back, so that the result is final. After `false`, the write can be
    /// repeated.
    ///
    /// If the future is dropped, call it again. The same holds as for [`Table::rollback`].
    ///
    /// # Errors
    /// [`ErrorKind::OutsideRetention`] if the instant is older than the active timeline;
    /// [`ErrorKind::Conflict`] if its writer is alive, or if another writer holds the table's lock;
    /// [`ErrorKind::Storage`].
    pub async fn settle(&self, instant: Instant) -> Result<bool> {
        self.in_turn("settle", async |turn| self.settle_in_turn(turn, instant).await).await
    }

    async fn settle_in_turn(&self, turn: &Turn<'_>, instant: Instant) -> Result<bool> {
        turn.forget_view().await;
        if rollback::roll_back_pending(self, turn).await?.contains(&instant) {
            return Ok(false);
        }
        let view = turn.view().await?;
        let mut entries = view.timeline.entries().iter();
        if let Some(entry) = entries.find(|entry| entry.instant == instant && entry.action.writes_rows()) {
            return match entry.is_pending() {
                false => Ok(true),
                true => Err(Error::new(
                    ErrorKind::Conflict,
                    "the writer of this instant is active, as its heartbeat shows",
                )
                .with_context("instant", instant)),
            };
        }
        match view.timeline.completed_commits().next() {
            Some(first) if instant < first.instant => Err(Error::new(
                ErrorKind::OutsideRetention,
                "the instant is older than the active timeline, which no longer shows whether it completed",
            )
            .with_context("instant", instant)
            .with_context("earliest", first.instant)),
            _ => Ok(false),
        }
    }
}
