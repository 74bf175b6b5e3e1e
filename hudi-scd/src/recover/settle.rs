//! Settling: determines the outcome of a commit if its writer did not receive a response.

use super::rollback;
use crate::{
    Error, ErrorKind, Result,
    context::{Context, Turn},
    timeline::Instant,
};

/// Implements [`Table::settle`](crate::Table::settle).
pub(crate) async fn settle(context: &Context, instant: Instant) -> Result<bool> {
    context.in_turn("settle", async |turn| settle_in_turn(context, turn, instant).await).await
}

async fn settle_in_turn(context: &Context, turn: &Turn<'_>, instant: Instant) -> Result<bool> {
    turn.forget_view().await;
    if rollback::roll_back_pending(context, turn).await?.contains(&instant) {
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
