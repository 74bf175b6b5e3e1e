//! Steps that are not statements: Glue jobs, with the feature `glue`.

use redshift_orchestrator::{
    Error, ErrorKind, Orchestrator, Pipeline, Result, Run,
    task::{TaskKind, TaskWork},
};

use crate::options::ServiceOptions;

/// Rejects a run that selects a step which this program cannot run, before anything runs.
pub(crate) fn check(pipeline: &Pipeline, run: &Run) -> Result<()> {
    for (step, work) in selected(pipeline, run)? {
        let way_out = match work.kind() {
            TaskKind::Glue if cfg!(feature = "glue") => continue,
            TaskKind::Glue => {
                "this program was built without Glue; install it with `--features glue`, or run the pipeline as a state machine \
                 (`sfn-adapter asl`)"
            }
            _ => {
                "this program has no Hudi; run the pipeline with a program that registers the kind \
                 (`Orchestrator::with_task`), or as a state machine (`sfn-adapter asl`), or leave the step out with --only or \
                 --tags"
            }
        };
        let message = format!("the step is of the kind `{}`, and {way_out}", work.kind());
        return Err(Error::new(ErrorKind::Definition, message).with_context("step", step));
    }
    Ok(())
}

/// Registers the executors that the run needs: for the selected steps, and for open attempts of an earlier
/// process at other steps.
pub(crate) async fn register(
    orchestrator: Orchestrator,
    pipeline: &Pipeline,
    run: &Run,
    options: &ServiceOptions,
) -> Result<Orchestrator> {
    let is_selected = selected(pipeline, run)?.iter().any(|(_, work)| work.kind() == TaskKind::Glue);
    let entries = orchestrator.journal().entries(run.name()).await?;
    let mut open = entries.iter().filter(|entry| entry.state.is_unsettled());
    match is_selected || open.any(|entry| entry.task().is_some_and(|(kind, _)| kind == TaskKind::Glue)) {
        true => with_glue(orchestrator, pipeline, options).await,
        false => Ok(orchestrator),
    }
}

fn selected<'a>(pipeline: &'a Pipeline, run: &Run) -> Result<Vec<(&'a str, &'a TaskWork)>> {
    let selected = pipeline.selected(run)?;
    let steps = pipeline.steps().iter().zip(selected).filter(|(_, is_selected)| *is_selected);
    Ok(steps.filter_map(|(step, _)| Some((step.name(), step.task()?))).collect())
}

#[cfg(feature = "glue")]
async fn with_glue(
    orchestrator: Orchestrator,
    pipeline: &Pipeline,
    options: &ServiceOptions,
) -> Result<Orchestrator> {
    Ok(orchestrator.with_glue(std::sync::Arc::new(options.glue(Some(pipeline)).await?)))
}

#[cfg(not(feature = "glue"))]
async fn with_glue(orchestrator: Orchestrator, _: &Pipeline, _: &ServiceOptions) -> Result<Orchestrator> {
    Ok(orchestrator)
}
