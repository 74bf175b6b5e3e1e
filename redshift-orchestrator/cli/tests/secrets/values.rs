//! Checks that the library's values print no secrets.

use redshift_data_local::{self as local, LocalExecutor, Script};
use redshift_orchestrator::{
    Description, Error, ExecutionMode, Parameter, Pipeline, Run, SqlText, Statement, StatementId, Status,
    SubStatement, Target, Value, journal::RunBegun, pipeline::Step,
};

use crate::{ARN, MARK, PIN, SAID, SQL, search};

fn pipeline() -> Pipeline {
    Pipeline::builder("p")
        .with_declared_target(Target::cluster("dwh", "dev").with_secret(ARN))
        .with_secret_parameter("pin")
        .with_parameter("open", Some("told"))
        .with_step(Step::sql("a", SQL).with_parameter("pin", "${pin}"))
        .with_step(Step::batch("b", [SQL, SQL], ExecutionMode::AutoCommit).with_parameter("pin", "${open}"))
        .with_step(Step::call("c", "f('sesame-literal', :pin)").with_parameter("pin", "sesame ${pin}"))
        .build()
        .unwrap()
}

#[test]
fn debug_output_of_public_types_contains_no_secrets() {
    let statement = Statement::sql(SQL)
        .with_parameter("pin", PIN)
        .bind("note", PIN)
        .with_target(Target::workgroup("dwh", "dev").with_secret(ARN));
    let mut description = Description::new(StatementId::new("id"), Status::Failed).with_error(SAID);
    description.sql = Some(SqlText::new(SQL));
    description.parameters = vec![Parameter::new("pin", PIN)];
    description.target = Some(Target::cluster("dwh", "dev").with_secret(ARN));
    let mut sub = SubStatement::new(StatementId::new("id:1"), Status::Failed);
    (sub.sql, sub.error) = (Some(SqlText::new(SQL)), Some(SAID.to_owned()));
    description.sub_statements.push(sub);
    let script = Script::new().on(SQL, local::ScriptedExecution::failed(std::time::Duration::ZERO, SAID));
    let pipeline = pipeline();
    let run = Run::new("r").with_parameter("pin", PIN);
    let mut begun = RunBegun::default();
    begun.parameters.insert("open".to_owned(), PIN.to_owned());
    for said in [
        format!("{statement:?} {:?}", statement.parameters()),
        format!("{:?}", Value::from(PIN)),
        format!("{description:?}"),
        format!("{script:?}"),
        format!("{:?}", LocalExecutor::scripted(script.clone())),
        format!("{pipeline:?} {run:?} {:?}", pipeline.steps()),
        format!(
            "{} {:?} {} {}",
            pipeline.plan(),
            pipeline.plan(),
            pipeline.plan().to_mermaid(),
            pipeline.plan().to_json()
        ),
        format!("{:?}", pipeline.statements(&run).unwrap()),
        format!("{begun:?}"),
    ] {
        search("Debug", said);
    }
}

#[test]
fn rejections_of_statements_and_runs_contain_no_secrets() {
    let base = || Statement::sql(SQL).with_parameter("pin", PIN);
    let transaction = |last: &str| Statement::batch([SQL, last]).with_parameter("pin", PIN);
    let mut refused: Vec<Error> = [
        base().with_parameter("pin", PIN),
        base().with_parameter("other", PIN),
        base().with_parameter("no name", PIN),
        Statement::sql(SQL).with_parameter("pin", ""),
        transaction("TRUNCATE sesame"),
        Statement::batch(vec![SQL; 41]).with_parameter("pin", PIN),
        Statement::batch(vec!["SET search_path TO sesame"; 41])
            .with_execution_mode(ExecutionMode::AutoCommit),
    ]
    .into_iter()
    .map(|statement| statement.check().and_then(|()| statement.parts().map(drop)).unwrap_err())
    .collect();
    let pipeline = Pipeline::builder("p")
        .with_parameter("table", None)
        .with_step(Step::sql("a", "SELECT 'sesame' FROM ${table}"))
        .build()
        .unwrap();
    refused.push(pipeline.statements(&Run::new("r").with_parameter("table", "x; sesame")).unwrap_err());
    refused.push(pipeline.statements(&Run::new("r").with_parameter("tabel", "sesame")).unwrap_err());
    for error in refused {
        search("an error", format!("{error} {error:?}"));
    }
    assert!(
        pipeline.statements(&Run::new("r").with_parameter("table", "t")).unwrap()[0].sqls()[0].contains(MARK)
    );
}
