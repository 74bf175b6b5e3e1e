//! Reports the server's notices as messages of a statement.

use std::time::Duration;

use async_trait::async_trait;
use redshift_orchestrator::{Message, MessageSource, Result, StatementId};

use super::Postgres;
use crate::LocalExecutor;

#[async_trait]
impl MessageSource for LocalExecutor<Postgres> {
    async fn messages(&self, id: &StatementId, _last: bool) -> Result<Vec<Message>> {
        Ok(self.notices(id).into_iter().map(|notice| Message::new(notice.severity, notice.message)).collect())
    }

    /// Returns a short interval, because the messages are in memory and reading them sends no request.
    fn interval(&self) -> Duration {
        Duration::from_millis(500)
    }
}
