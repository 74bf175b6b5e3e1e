//! The executable that AWS Lambda starts (`provided.al2023`).

use std::{env, process::ExitCode};

use sfn_adapter::lambda::{Function, init_logs, serve};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let variable = |name: &str| env::var(name).ok();
    init_logs(variable("AWS_LAMBDA_LOG_LEVEL").as_deref());
    if variable("AWS_LAMBDA_RUNTIME_API").is_none() {
        eprintln!(
            "bootstrap is started by AWS Lambda, which sets AWS_LAMBDA_RUNTIME_API; see the README of sfn-adapter"
        );
        return ExitCode::from(2);
    }
    match serve(Function::from_variables(variable)).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("cannot connect to the Lambda Runtime API: {error}");
            ExitCode::FAILURE
        }
    }
}
