//! Messages of SQS: failed messages return to the queue.

use aws_lambda_events::sqs::{BatchItemFailure, SqsBatchResponse, SqsMessage};

use crate::{Error, ErrorNames};

/// Checks that each message can be returned.
///
/// # Errors
/// Returns [`Error::BadInput`] for a message without an id. An empty id in the response would make Lambda
/// return all messages to the queue.
pub(super) fn check_ids(messages: &[SqsMessage]) -> Result<(), Error> {
    if messages.iter().any(|message| message.message_id.as_deref().is_none_or(str::is_empty)) {
        return Err(Error::BadInput("a message of the event lacks the member `messageId`".to_owned()));
    }
    Ok(())
}

/// Returns the messages that failed.
pub(super) fn returned<T>(
    messages: &[SqsMessage],
    outcomes: impl IntoIterator<Item = Result<T, Error>>,
) -> SqsBatchResponse {
    let mut response = SqsBatchResponse::default();
    for (message, outcome) in messages.iter().zip(outcomes) {
        if let Err(error) = outcome {
            let id = message.message_id.clone().unwrap_or_default();
            let name = error.name(ErrorNames::Qualified);
            match error.may_quote() {
                true => tracing::error!(message_id = id, error = name.as_ref(), "returned to the queue"),
                false => {
                    tracing::error!(message_id = id, error = name.as_ref(), "returned to the queue: {error}")
                }
            }
            let mut failure = BatchItemFailure::default();
            failure.item_identifier = id;
            response.batch_item_failures.push(failure);
        }
    }
    response
}
