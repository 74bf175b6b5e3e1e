//! Runs a pipeline and prints its progress: an `Observer` receives each event of each step.
//!
//! ```text
//!    0.0 s  customers  submitted
//!    0.0 s  products   submitted
//!   15.0 s  products   finished
//!   40.0 s  customers  finished
//!   40.0 s  sales      submitted
//!   43.0 s  sales      failed (serialization-conflict): ERROR: 1023 Serializable isolation violation
//!   43.0 s  sales      retry after serialization-conflict, in 1.0 s
//!   44.0 s  sales      submitted
//!  134.0 s  sales      finished
//! ```
//!
//! The clock is paused, so the example does not actually wait.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use redshift_data_local::{LocalExecutor, Script, ScriptedExecution};
use redshift_orchestrator::{Observer, Orchestrator, Pipeline, ProgressEvent, Result, Run, StepKey};
use tokio::time::Instant;

const PIPELINE: &str = r#"
name = "cycle"

[[steps]]
name = "customers"
call = "load_customers()"

[[steps]]
name = "products"
call = "load_products()"

[[steps]]
name = "sales"
call = "load_sales()"
after = ["customers", "products"]
retry = { attempts = 3, on = ["serialization-conflict"] }
"#;

/// Observer that prints the events that matter to a user, and records the lines.
#[derive(Debug)]
struct Printer {
    started: Instant,
    lines: Mutex<Vec<String>>,
}

impl Observer for Printer {
    // Runs on the task of the step, so it must return quickly.
    fn observe(&self, key: &StepKey, event: &ProgressEvent<'_>) {
        let text = match event {
            ProgressEvent::Submitted { .. } => "submitted".to_owned(),
            ProgressEvent::StepRetried { .. }
            | ProgressEvent::Skipped { .. }
            | ProgressEvent::Ended { .. } => event.to_string(),
            // Ignores polls, retried requests, and events that later versions may add.
            _ => return,
        };
        let line = format!("{:>6.1} s  {:<10} {text}", self.started.elapsed().as_secs_f64(), key.step);
        println!("{line}");
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<()> {
    let script = Script::new()
        .on("load_customers", ScriptedExecution::finished(Duration::from_secs(40)))
        .on("load_products", ScriptedExecution::finished(Duration::from_secs(15)))
        .on_each(
            "load_sales",
            [
                ScriptedExecution::failed(
                    Duration::from_secs(3),
                    "ERROR: 1023 Serializable isolation violation",
                ),
                ScriptedExecution::finished(Duration::from_secs(90)),
            ],
        );
    let printer = Arc::new(Printer { started: Instant::now(), lines: Mutex::default() });
    let orchestrator = Orchestrator::new(LocalExecutor::scripted(script)).with_observer(printer.clone());

    let report = Pipeline::from_toml(PIPELINE)?.run(&orchestrator, Run::new("cycle-007")).await?;
    assert!(report.is_success());
    let lines = printer.lines.lock().unwrap_or_else(PoisonError::into_inner);
    assert_eq!(lines.len(), 9, "four submits, four outcomes, one retry");
    Ok(())
}
