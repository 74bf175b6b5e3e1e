//! Tests code that calls the AWS SDK, with an emulator in the same process.
//!
//! ```text
//! loaded 340 rows
//! a wrong name: ERROR: procedure does not exist
//! ```
//!
//! Run it with `cargo run -p examples --features aws --example emulator_in_a_test`. It sends nothing to AWS,
//! and any credentials are accepted. For tests in other languages, start the program `redshift-data-emulator`
//! and set `AWS_ENDPOINT_URL_REDSHIFT_DATA` to its address.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use aws_sdk_redshiftdata::{
    Client, Config,
    config::{BehaviorVersion, Credentials, Region},
    types::StatusString,
};
use redshift_data_emulator::Emulator;
use redshift_data_local::{LocalExecutor, Script, ScriptedExecution};
use tokio::sync::oneshot;

/// The code under test: runs a procedure and returns the number of rows that it loaded.
async fn load(client: &Client, sql: &str) -> Result<i64> {
    let submitted =
        client.execute_statement().workgroup_name("dwh").database("mystore").sql(sql).send().await?;
    let id = submitted.id().context("the response contains no id")?;
    loop {
        let described = client.describe_statement().id(id).wait_time_seconds(10).send().await?;
        match described.status() {
            Some(StatusString::Finished) => return Ok(described.result_rows()),
            Some(StatusString::Failed | StatusString::Aborted) => {
                bail!("{}", described.error().unwrap_or("no reason given"))
            }
            _ => {}
        }
    }
}

// In a test, use `#[tokio::test]`.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let script = Script::new()
        .on("load_sales()", ScriptedExecution::finished(Duration::from_millis(200)).with_affected_rows(340))
        .otherwise(ScriptedExecution::failed(Duration::ZERO, "ERROR: procedure does not exist"));
    let warehouse = LocalExecutor::scripted(script);

    // With port 0, the operating system chooses a free port.
    let emulator = Emulator::new(warehouse.clone()).bind("127.0.0.1:0".parse()?).await?;
    let config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-west-1"))
        .credentials_provider(Credentials::new("any", "any", None, None, "test"))
        .endpoint_url(emulator.url())
        .build();
    let client = Client::from_conf(config);
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(emulator.serve_until(async { stopped.await.unwrap_or(()) }));

    let rows = load(&client, "CALL load_sales()").await?;
    println!("loaded {rows} rows");
    assert_eq!(rows, 340);

    let error = load(&client, "CALL load_sails()").await.expect_err("the script fails this statement");
    println!("a wrong name: {error}");
    assert_eq!(error.to_string(), "ERROR: procedure does not exist");
    assert_eq!(warehouse.effects().len(), 1);

    drop(stop);
    serving.await?;
    Ok(())
}
