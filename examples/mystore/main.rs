//! MyStore: a warehouse with real SQL and real Hudi tables that is loaded, updated, cleaned and queried for a
//! working day, and then verified.
//!
//! ```text
//! sources -> landing tables -> procedures, in a pipeline -> dimensions, fact          (warehouse.rs, sql/, cycle.toml)
//!         \-> raw files -> Hudi tables, in the same pipeline -> lookups of new sales  (lake/, lake.toml, catalog/)
//!          \-> plain recomputation (model.rs) -> proof against both (proof/) -> report.html (report/)
//! ```

use std::{process::ExitCode, sync::Arc};

use anyhow::Result;
use clap::Parser;

mod catalog;
mod changes;
mod crash;
mod domain;
mod embedded;
mod lake;
mod landing;
mod model;
mod options;
mod progress;
mod proof;
mod record;
mod report;
mod run_dir;
mod tpcds;
mod warehouse;

use changes::{Changes, Cycle};
use lake::{Lake, steps::LakeSteps};
use model::Model;
use options::Options;
use progress::Progress;
use proof::Proof;
use record::{CycleRecord, WarehouseRecord};
use redshift_orchestrator::Pipeline;
use run_dir::RunDir;
use warehouse::Warehouse;

#[tokio::main]
async fn main() -> ExitCode {
    match play(Options::parse()).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Executes the whole run, from the options to the report.
async fn play(options: Options) -> Result<ExitCode> {
    // Reject invalid input before changing anything.
    let pipeline = options.pipeline(&landing::procedures())?;
    let mut dir = RunDir::look(&options)?;
    warehouse::check(&options, &dir.manifest).await?;
    dir.claim()?;

    // Computes the whole day in advance, as the changes in the sources and as the expected result.
    let changes = Changes::generate(options.scale, options.cycles, options.seed)?;
    let model = Model::of(&changes);

    // One more statement, ANALYZE, follows the initial load.
    let statements = pipeline.steps().len() * changes.cycles.len() + 1;
    let progress = Progress::new(&changes, statements);
    progress.say("opening the lake");
    let lake = Arc::new(Lake::open(&options, &dir).await?);
    progress.say("starting the warehouse");
    let steps = LakeSteps::new(lake.clone());
    let warehouse = Warehouse::open(&options, &dir, &changes, steps, progress.clone()).await?;

    let mut records: Vec<CycleRecord> = dir.cycles()?;
    for cycle in &changes.cycles {
        if records.iter().any(|record| record.cycle == cycle.number) {
            progress.skip(cycle, pipeline.steps().len());
            continue;
        }
        progress.begin(cycle);
        let record = play_cycle(cycle, &pipeline, &dir, &warehouse, &lake).await?;
        dir.add_cycle(&record)?;
        progress.end_cycle(cycle, &record);
        records.push(record);
    }

    progress.say("proving");
    dir.not_finished()?;
    lake.sync_catalog().await?;
    let proof = Proof::of(&changes, &model, &records, &warehouse, &lake).await?;
    warehouse.close().await?;
    progress.clear();

    println!("{}", progress::summary(&records));
    println!("{proof}");
    proof::expected::write_expected(&dir.file("expected"), &model)?;
    let report = report::write(&dir, &records, &proof, landing::rows(&changes))?;
    if proof.failure.is_none() {
        dir.finish()?;
    }
    println!("{}", report.display());
    Ok(if proof.failure.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Executes one cycle. An interrupted cycle can be executed again: the pipeline resumes from its journal, and
/// a table takes in each raw file once.
async fn play_cycle(
    cycle: &Cycle,
    pipeline: &Pipeline,
    dir: &RunDir,
    warehouse: &Warehouse,
    lake: &Lake,
) -> Result<CycleRecord> {
    lake.land(cycle).await?;
    let report = warehouse.run(pipeline, dir, cycle).await?;
    let mut statements = WarehouseRecord::of(&report);
    if cycle.number == 0 {
        statements.add(&warehouse.analyze(dir).await?);
    }
    let (tables, catalog) = lake.finish(cycle).await?;
    let lookups = lake.look_up(cycle).await?;
    report::keep_gantt(dir, cycle.number, &report)?;
    Ok(CycleRecord {
        cycle: cycle.number,
        resumed: report.resumed,
        warehouse: statements,
        tables,
        catalog,
        lookups,
    })
}
