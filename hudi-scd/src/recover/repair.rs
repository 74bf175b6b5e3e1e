//! Finishes or undoes the remains of dead writers, before a change.

use super::rollback;
use crate::{
    Result,
    context::{Context, Turn},
    maintain,
    timeline::Instant,
};

/// Finishes or undoes the remains of dead writers.
pub(crate) async fn repair(context: &Context, turn: &Turn<'_>) -> Result<Vec<Instant>> {
    let rolled_back = Box::pin(rollback::roll_back_pending(context, turn)).await?;
    Box::pin(maintain::finish_pending_cleans(context, turn)).await?;
    Box::pin(maintain::drop_pending_savepoints(context, turn)).await?;
    Box::pin(rollback::sweep_markers(context, turn)).await?;
    Ok(rolled_back)
}
