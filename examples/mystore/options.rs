//! The command-line options, and the checks that change nothing.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use redshift_orchestrator::{Pipeline, pipeline::StepStatement};

use crate::lake::{S3Folder, endpoint};

/// Simulates a working day of MyStore with an embedded PostgreSQL server and Hudi tables on disk: an initial
/// load, followed by half-hourly cycles. Then proves that nothing was lost or done twice. The last line
/// printed is the path of the report.
///
/// With --s3 and --glue-endpoint, the tables are on S3 and in a Glue catalog. Both may be a local server,
/// which needs no credentials.
#[derive(Clone, Debug, Parser)]
#[command(name = "mystore")]
pub(crate) struct Options {
    /// TPC-DS scale factor. 0.01 gives 1,000 customers and 120,527 sales, 0.1 gives 10,000 and 240,485
    #[arg(long, default_value_t = 0.01, value_parser = scale)]
    pub(crate) scale: f64,

    /// Number of half-hourly cycles after the initial load
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) cycles: u32,

    /// Seed of the changes, sales and faults of the day
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,

    /// Directory of the run. An unfinished run in it is continued, and a finished one is proved again
    /// [default: `mystore` in the build's target directory, where a new run replaces a finished one]
    #[arg(long)]
    pub(crate) dir: Option<PathBuf>,

    /// PostgreSQL server to use instead of the embedded one, as postgresql://user:password@host:5432/database
    #[arg(long, value_name = "URL", value_parser = postgres_url)]
    pub(crate) postgres: Option<String>,

    /// Folder of the Hudi tables on S3, as s3://bucket/folder with the environment's credentials, or as
    /// http://127.0.0.1:5000/bucket/folder on a local server [default: on disk, in the directory of the run]
    #[arg(long, value_name = "URL", value_parser = str::parse::<S3Folder>)]
    pub(crate) s3: Option<S3Folder>,

    /// Endpoint of AWS Glue, as https://glue.eu-west-1.amazonaws.com or http://127.0.0.1:5000. The tables are
    /// registered in its catalog after each commit, and the lookups find them there
    #[arg(long, value_name = "URL", value_parser = endpoint, requires = "s3")]
    pub(crate) glue_endpoint: Option<String>,

    /// Pipeline file for each cycle, instead of the example's cycle.toml and lake.toml
    #[arg(long, value_name = "FILE")]
    pub(crate) pipeline: Option<PathBuf>,

    /// Share of submits and describes that fail: throttled, lost request, lost reply, dropped connection
    #[arg(long, default_value_t = 0.1, value_parser = share)]
    pub(crate) faults: f64,

    /// Kill the process after the submit of this step has taken effect, before it is recorded, as in
    /// 7:load_sale. With 7:load_sale:finished, kill it after the statement has finished. To continue, start
    /// the program again without this option
    #[arg(long, value_name = "CYCLE:STEP")]
    pub(crate) crash_at: Option<CrashAt>,
}

impl Options {
    /// Reads the pipeline file and checks it against the procedures of the warehouse.
    ///
    /// # Errors
    /// Fails if the file is not a valid pipeline, if it calls a procedure that does not exist or does not
    /// call one of them, if one of its parameters has no value, or if the run has no such crash point.
    pub(crate) fn pipeline(&self, known_procedures: &[&str]) -> Result<Pipeline> {
        let pipeline = match &self.pipeline {
            None => Pipeline::from_toml(&[include_str!("cycle.toml"), include_str!("lake.toml")].join("\n"))?,
            Some(file) => Pipeline::from_toml_file(file)?,
        };
        for step in pipeline.steps() {
            let Some(StepStatement::Call(call)) = step.statement() else { continue };
            let procedure = call.split('(').next().unwrap_or_default().trim();
            ensure!(
                known_procedures.contains(&procedure),
                "step {} calls {procedure}, which does not exist; the warehouse has {}",
                step.name(),
                known_procedures.join(", ")
            );
        }
        let left_out: Vec<_> =
            known_procedures.iter().filter(|name| !calls(&pipeline, name)).copied().collect();
        ensure!(
            left_out.is_empty(),
            "the pipeline does not call {}; a cycle must call every procedure",
            left_out.join(", ")
        );
        let mut parameters = pipeline.parameters();
        if let Some((name, _)) = parameters.find(|(name, default)| default.is_none() && !GIVEN.contains(name))
        {
            bail!(
                "the pipeline's parameter `{name}` has no default, but a cycle only sets {}",
                GIVEN.join(" and ")
            );
        }
        drop(parameters);
        if let Some(crash) = &self.crash_at {
            // The process is killed at the submit of a statement.
            let steps = pipeline.steps().iter().filter(|step| step.statement().is_some());
            let steps: Vec<_> = steps.map(|step| step.name()).collect();
            ensure!(
                crash.cycle <= self.cycles,
                "--crash-at {crash}: the run has cycles 0 to {}",
                self.cycles
            );
            ensure!(
                steps.contains(&crash.step.as_str()),
                "--crash-at {crash}: the pipeline has no such step; it has {}",
                steps.join(", ")
            );
        }
        Ok(pipeline)
    }

    /// Returns the directory of the run, and `true` if a new run may replace a finished one in it.
    pub(crate) fn directory(&self) -> (PathBuf, bool) {
        match &self.dir {
            Some(dir) => (dir.clone(), false),
            None => (default_directory(std::env::current_exe().ok().as_deref()), true),
        }
    }
}

/// Parameters that a cycle sets.
const GIVEN: [&str; 2] = ["cycle", "until"];

/// Returns `true` if a step calls the procedure, with `call` or in its SQL.
fn calls(pipeline: &Pipeline, procedure: &str) -> bool {
    let call = format!("{procedure}(");
    pipeline.steps().iter().any(|step| match step.statement() {
        Some(StepStatement::Call(text)) => {
            text.split('(').next().is_some_and(|name| name.trim() == procedure)
        }
        Some(StepStatement::Sql(sql)) => sql.contains(&call),
        Some(StepStatement::Batch(sqls, _)) => sqls.iter().any(|sql| sql.contains(&call)),
        _ => false,
    })
}

/// Returns the directory `mystore` in the target directory, or in the current directory if the program is not
/// in a target directory.
fn default_directory(program: Option<&Path>) -> PathBuf {
    let examples = program.and_then(Path::parent).filter(|dir| dir.ends_with("examples"));
    let target = examples.and_then(Path::parent).and_then(Path::parent);
    target.map_or_else(|| PathBuf::from("mystore"), |target| target.join("mystore"))
}

/// Point at which the process kills itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CrashAt {
    pub(crate) cycle: u32,
    pub(crate) step: String,
    /// `true` to kill the process only after the statement has finished.
    pub(crate) finished: bool,
}

impl FromStr for CrashAt {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (cycle, rest) = text.split_once(':').context("expected CYCLE:STEP, as in 7:load_sale")?;
        let cycle = cycle.parse().with_context(|| format!("`{cycle}` is not a cycle number"))?;
        let (step, finished) = match rest.split_once(':') {
            None => (rest, false),
            Some((step, "finished")) => (step, true),
            Some((_, other)) => bail!("`{other}` is not valid here; only `finished` is"),
        };
        Ok(Self { cycle, step: step.to_owned(), finished })
    }
}

impl fmt::Display for CrashAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}{}", self.cycle, self.step, if self.finished { ":finished" } else { "" })
    }
}

fn scale(text: &str) -> Result<f64, String> {
    let scale: f64 = text.parse().map_err(|_| format!("`{text}` is not a number"))?;
    if (0.001..=1.0).contains(&scale) { Ok(scale) } else { Err("expected 0.001 to 1".to_owned()) }
}

fn share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|_| format!("`{text}` is not a number"))?;
    if (0.0..=0.5).contains(&share) { Ok(share) } else { Err("expected 0 to 0.5".to_owned()) }
}

fn postgres_url(text: &str) -> Result<String, String> {
    text.parse::<tokio_postgres::Config>()
        .map(|_| text.to_owned())
        .map_err(|error| format!("{error}; expected postgresql://user:password@host:5432/database"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(arguments: &[&str]) -> Result<Options, clap::Error> {
        Options::try_parse_from(["mystore"].iter().chain(arguments))
    }

    #[test]
    fn options_out_of_range_are_rejected() {
        for wrong in [
            &["--scale", "0"][..],
            &["--scale", "many"],
            &["--cycles", "0"],
            &["--faults", "0.9"],
            &["--crash-at", "load_sale"],
            &["--crash-at", "1:load_sale:later"],
            &["--postgres", "http://"],
            &["--s3", "lake"],
            &["--s3", "s3://lake", "--glue-endpoint", "127.0.0.1:5000"],
            &["--glue-endpoint", "http://127.0.0.1:5000"],
            &["--sclae", "1"],
        ] {
            assert!(options(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_crash_requires_a_step_and_a_cycle_of_the_run() {
        let known = crate::landing::procedures();
        let check = |crash| options(&["--crash-at", crash, "--cycles", "3"]).unwrap().pipeline(&known);
        assert!(check("3:load_sale:finished").is_ok());
        assert!(check("4:load_sale").unwrap_err().to_string().contains("0 to 3"));
        assert!(check("3:load_sales").unwrap_err().to_string().contains("load_sale, "));
    }

    #[test]
    fn the_default_directory_is_in_the_target_directory() {
        let dir = default_directory(Some(Path::new("/code/target/debug/examples/mystore")));
        assert_eq!(dir, Path::new("/code/target/mystore"));
        assert_eq!(default_directory(Some(Path::new("/usr/bin/mystore"))), Path::new("mystore"));
    }
}
