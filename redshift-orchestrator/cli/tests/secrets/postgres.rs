//! Searches for secrets when a PostgreSQL server is used: URLs with passwords, errors of the server, and
//! messages of procedures.

use std::sync::Arc;

use redshift_data_local::LocalExecutor;
use redshift_orchestrator::{ExecutionMode, Orchestrator, Pipeline, Run, Statement, StepKey, pipeline::Step};

use crate::{capture, search, services::Heard};

#[tokio::test]
async fn urls_with_passwords_are_not_printed() {
    capture::listen();
    for url in [
        "postgresql://me:sesame@127.0.0.1:1/none",
        "postgresql://me:sesame@127.0.0.1:port/none",
        "postgresql://me:sesame?x=sesame@127.0.0.1:1/none",
        "postgresql:/me:sesame@127.0.0.1",
        "host=127.0.0.1 password=sesame sesame",
        "sesame",
    ] {
        let builder = LocalExecutor::postgres(url);
        search("Debug", format!("{builder:?}"));
        let error = builder.start().await.unwrap_err();
        search(url, format!("{error} {error:?}"));
    }
    search("the log", capture::said());
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: scripts/test"]
async fn errors_and_messages_of_the_server_contain_no_sql() {
    capture::listen();
    let url = std::env::var("REDSHIFT_ORCHESTRATOR_POSTGRES_URL").unwrap();
    let url = url.replacen("postgres@", "postgres:sesame-password@", 1);
    let executor = Arc::new(LocalExecutor::postgres(&url).start().await.unwrap());
    let orchestrator = Orchestrator::new(executor.clone());
    search("Debug", format!("{orchestrator:?}"));
    for (number, statement) in [
        Statement::sql("SELECT 'sesame-literal'::int"),
        Statement::sql("SELEC 'sesame-literal'"),
        Statement::sql("SELECT :pin::int").with_parameter("pin", "sesame-value"),
        Statement::sql("DO $$ BEGIN EXECUTE 'SELECT ''sesame-literal''::int'; END $$"),
        Statement::sql("DO $$ BEGIN RAISE NOTICE 'sesame-literal'; RAISE 'sesame-literal'; END $$"),
        Statement::batch(["CREATE TEMP TABLE t (pin text UNIQUE)", "INSERT INTO t VALUES (:pin), (:pin)"])
            .with_parameter("pin", "sesame-value"),
        Statement::batch(["SELECT 1", "SELECT 'sesame-literal' FROM nowhere"]),
        Statement::sql("COPY t FROM 's3://sesame' IAM_ROLE 'sesame'"),
    ]
    .into_iter()
    .enumerate()
    {
        let key = StepKey::new(format!("secrets-{}", std::process::id()), format!("s{number}"));
        match orchestrator.run(&key, statement).await {
            Ok(outcome) => {
                assert!(!outcome.is_success(), "{number}");
                search(&format!("statement {number}"), format!("{outcome:?} {}", outcome.kind));
            }
            Err(error) => search(&format!("statement {number}"), format!("{error} {error:?}")),
        }
    }
    // Messages of procedures are printed unchanged, except for secret values.
    let heard = Heard::default();
    let talking = orchestrator.clone().with_observer(heard.clone()).with_messages(executor);
    let sql = "DO $$ BEGIN RAISE NOTICE 'of day % with %', 'today', current_setting('secrets.pin'); END $$";
    let talks = Statement::batch(["SET secrets.pin = 'sesame-value'", sql])
        .with_execution_mode(ExecutionMode::AutoCommit)
        .with_secret("sesame-value");
    let key = StepKey::new(format!("secrets-{}", std::process::id()), "talks");
    assert!(talking.run(&key, talks).await.unwrap().is_success());
    let said = heard.0.lock().unwrap().clone();
    assert!(said.contains("of day today with …"), "{said}");
    search("a notice", said);
    let pipeline = Pipeline::builder("p")
        .with_secret_parameter("pin")
        .with_step(Step::sql("a", "SELECT :pin::int").with_parameter("pin", "${pin}"))
        .build()
        .unwrap();
    let run = Run::new(format!("secrets-{}-p", std::process::id())).with_parameter("pin", "sesame-value");
    let report = pipeline.run(&orchestrator, run).await.unwrap();
    assert!(report.to_string().contains("invalid input syntax for type integer"), "{report}");
    search("the report", format!("{report} {} {}", report.to_json(), report.to_svg()));
    search("the log", capture::said());
}
