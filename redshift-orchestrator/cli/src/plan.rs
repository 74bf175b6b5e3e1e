//! `plan` and `validate`: commands that do not connect to a service.

use clap::{Args, ValueEnum};
use redshift_orchestrator::{Result, Run};
use serde_json::json;

use crate::{
    exit::Exit,
    options::{OutputOptions, PipelineOptions, RunValues},
    show,
};

#[derive(Args)]
pub(crate) struct PlanOptions {
    #[command(flatten)]
    pipeline: PipelineOptions,

    #[command(flatten)]
    values: RunValues,

    /// Output format
    #[arg(long, value_enum, default_value = "text")]
    format: Format,

    /// Also print the SQL. If parameters are given, the SQL contains their values
    #[arg(long)]
    show_sql: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A table
    Text,
    /// A JSON object
    Json,
    /// A Mermaid flowchart, which Markdown viewers can render
    Mermaid,
}

#[derive(Args)]
pub(crate) struct ValidateOptions {
    #[command(flatten)]
    pipeline: PipelineOptions,

    #[command(flatten)]
    output: OutputOptions,
}

pub(crate) fn plan(options: &PlanOptions) -> Result<Exit> {
    let pipeline = options.pipeline.read()?;
    let run = options.values.give(Run::new("plan"));
    // If parameters are given, they must be complete and valid. Without parameters, the plan applies to every
    // run.
    let rendered = match options.values.parameters.is_empty() {
        true => None,
        false => Some(pipeline.rendered(&run)?),
    };
    let plan = pipeline.plan_of(&run)?;
    match options.format {
        Format::Text => show::out(plan.to_string().trim_end()),
        Format::Json => show::out(&plan.to_json().to_string()),
        Format::Mermaid => show::out(plan.to_mermaid().trim_end()),
    }
    if options.show_sql {
        let selected = pipeline.selected(&run)?;
        for (number, step) in pipeline.steps().iter().enumerate().filter(|(number, _)| selected[*number]) {
            let Some(statement) = step.statement() else { continue };
            let rendered = rendered.as_ref().and_then(|rendered| rendered[number].statement());
            let sqls = rendered.map_or_else(|| statement.sqls(), |rendered| rendered.sqls().to_vec());
            show::out(&format!("\n-- {}", step.name()));
            sqls.iter().for_each(|sql| show::out(&format!("{sql};")));
        }
    }
    Ok(Exit::Success)
}

pub(crate) fn validate(options: &ValidateOptions) -> Result<Exit> {
    let pipeline = options.pipeline.read()?;
    if options.output.json {
        show::line(&json!({"event": "valid", "pipeline": pipeline.name(), "steps": pipeline.steps().len()}));
    } else {
        let steps = match pipeline.steps().len() {
            1 => "1 step".to_owned(),
            steps => format!("{steps} steps"),
        };
        show::out(&format!("{}: {steps}, no problems found", pipeline.name()));
    }
    Ok(Exit::Success)
}
