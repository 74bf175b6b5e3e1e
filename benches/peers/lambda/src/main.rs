//! The function that `cargo lambda new` creates, on one thread as ours: logs, and an answer without any work.

use lambda_runtime::{Error, LambdaEvent, run, service_fn, tracing};
use serde_json::{Value, json};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    tracing::init_default_subscriber();
    run(service_fn(|_: LambdaEvent<Value>| async { Ok::<_, Error>(json!({ "message": "hello" })) })).await
}
