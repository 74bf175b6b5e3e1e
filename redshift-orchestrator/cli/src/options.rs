//! Options shared by several commands.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use aws_config::BehaviorVersion;
use clap::{Args, ValueEnum};
use redshift_orchestrator::{Error, ErrorKind, Pipeline, Result, Run, Target};

use crate::journal::JournalLocation;

/// The pipeline file.
#[derive(Args)]
pub(crate) struct PipelineOptions {
    /// Pipeline file in TOML, or in JSON if its name ends in `.json`
    #[arg(value_name = "PIPELINE")]
    pub(crate) pipeline: PathBuf,
}

impl PipelineOptions {
    pub(crate) fn read(&self) -> Result<Pipeline> {
        match self.pipeline.extension() {
            Some(extension) if extension.eq_ignore_ascii_case("json") => {
                Pipeline::from_json_file(&self.pipeline)
            }
            _ => Pipeline::from_toml_file(&self.pipeline),
        }
    }
}

/// Parameters of a run, and the steps to run.
#[derive(Args)]
pub(crate) struct RunValues {
    /// Set a parameter of the run; can be repeated
    #[arg(short, long = "parameter", value_name = "NAME=VALUE", value_parser = pair)]
    pub(crate) parameters: Vec<(String, String)>,

    /// Run only steps with one of these tags
    #[arg(long, value_name = "TAG,…", value_delimiter = ',')]
    pub(crate) tags: Vec<String>,

    /// Run only these steps
    #[arg(long, value_name = "STEP,…", value_delimiter = ',')]
    pub(crate) only: Vec<String>,
}

impl RunValues {
    pub(crate) fn give(&self, mut run: Run) -> Run {
        for (name, value) in &self.parameters {
            run = run.with_parameter(name, value);
        }
        run.with_tags(&self.tags).with_steps(&self.only)
    }
}

pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Parses a duration in the format of pipeline files: `90s`, `10m`, `1h 30m`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let duration = text.parse::<jiff::SignedDuration>().ok().and_then(|duration| duration.try_into().ok());
    duration.ok_or_else(|| "expected a duration such as 90s, 10m or 1h 30m".to_owned())
}

/// Rejects an empty text.
pub(crate) fn not_blank(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("expected a text that is not empty".to_owned()),
        text => Ok(text.to_owned()),
    }
}

/// Checks the URL of a service.
fn endpoint(text: &str) -> Result<String, String> {
    match text.split_once("://") {
        Some(("http" | "https", rest)) if !rest.is_empty() && !rest.starts_with(['/', ':']) => {
            Ok(text.to_owned())
        }
        _ => Err("expected a URL such as http://127.0.0.1:8192".to_owned()),
    }
}

/// Location of the journal.
#[derive(Args)]
pub(crate) struct JournalOptions {
    /// Journal: a file or `s3://BUCKET/PREFIX`. Default: the pipeline file with `.journal` appended
    #[arg(long, value_name = "PATH|URL")]
    pub(crate) journal: Option<String>,
}

impl JournalOptions {
    /// Returns the location of the journal, for commands that also connect to a service.
    pub(crate) fn with(&self, pipeline: &Path, service: &ServiceOptions) -> JournalLocation {
        JournalLocation { text: self.text(pipeline), aws: service.aws(service.region.clone()) }
    }

    /// Returns the location of the journal, for commands that do not connect to a service.
    pub(crate) fn location(&self, pipeline: &Path) -> JournalLocation {
        JournalLocation { text: self.text(pipeline), aws: aws_config::defaults(BehaviorVersion::latest()) }
    }

    fn text(&self, pipeline: &Path) -> String {
        self.journal.clone().unwrap_or_else(|| format!("{}.journal", pipeline.display()))
    }
}

/// The database that runs the statements.
#[derive(Args)]
pub(crate) struct ServiceOptions {
    /// Run the SQL on this PostgreSQL server instead of AWS
    #[arg(long, value_name = "URL", conflicts_with_all = ["endpoint_url", "profile"])]
    pub(crate) postgres: Option<String>,

    /// URL of the Data API, for example of a `redshift-data-emulator`
    #[arg(long, value_name = "URL", value_parser = endpoint)]
    pub(crate) endpoint_url: Option<String>,

    /// Name of the service in the journal. A run continues only on the service and the database on which it
    /// began. Default: the AWS account and the region, or the URL of the service. Set it if one service has
    /// several URLs, or if the account cannot be determined
    #[arg(long, value_name = "NAME", value_parser = not_blank)]
    pub(crate) service_name: Option<String>,

    /// AWS region. Default: the region in the pipeline file, or of the environment
    #[arg(long, value_name = "NAME")]
    pub(crate) region: Option<String>,

    /// Profile in the AWS configuration files
    #[arg(long, value_name = "NAME")]
    pub(crate) profile: Option<String>,

    /// Identifier of a provisioned cluster
    #[arg(long, value_name = "ID", conflicts_with = "workgroup")]
    pub(crate) cluster: Option<String>,

    /// Name of a serverless workgroup
    #[arg(long, value_name = "NAME")]
    pub(crate) workgroup: Option<String>,

    /// Name of the database
    #[arg(long, value_name = "NAME")]
    pub(crate) database: Option<String>,

    /// Run as this database user, with temporary credentials. Not possible with a workgroup
    #[arg(long, value_name = "NAME", conflicts_with_all = ["secret", "workgroup"])]
    pub(crate) db_user: Option<String>,

    /// ARN of the secret with the database credentials
    #[arg(long, value_name = "ARN")]
    pub(crate) secret: Option<String>,
}

impl ServiceOptions {
    /// Returns the target of the statements. Options take precedence over the pipeline file.
    pub(crate) fn target(&self, pipeline: Option<&Pipeline>) -> Result<Target> {
        use redshift_orchestrator::{Auth, Compute};
        let file = pipeline.and_then(Pipeline::declared_target);
        // An emulator has only one database, so any name is valid.
        let emulator = self.endpoint_url.is_some();
        let database = self.database.clone().or_else(|| file.map(|target| target.database().to_owned()));
        let database =
            database.or_else(|| emulator.then(|| "dev".to_owned())).ok_or_else(|| missing("--database"))?;
        let target = match (&self.cluster, &self.workgroup, file.map(Target::compute)) {
            (Some(cluster), _, _) => Target::cluster(cluster, database),
            (_, Some(workgroup), _) => Target::workgroup(workgroup, database),
            (_, _, Some(Compute::Cluster(cluster))) => Target::cluster(cluster, database),
            (_, _, Some(Compute::Workgroup(workgroup))) => Target::workgroup(workgroup, database),
            _ if emulator => Target::cluster("local", database),
            _ => return Err(missing("--cluster or --workgroup")),
        };
        let auth = match (&self.db_user, &self.secret) {
            (Some(user), _) => Auth::DatabaseUser(user.clone()),
            (_, Some(secret)) => Auth::Secret(secret.clone()),
            _ => file.map(|target| target.auth().clone()).unwrap_or_default(),
        };
        match auth {
            Auth::DatabaseUser(_) if matches!(target.compute(), Compute::Workgroup(_)) => Err(Error::new(
                ErrorKind::Invalid,
                "a workgroup does not support a database user; use --secret, or neither option to run as the IAM identity",
            )),
            Auth::DatabaseUser(user) => Ok(target.with_database_user(user)),
            Auth::Secret(secret) => Ok(target.with_secret(secret)),
            _ => Ok(target),
        }
    }
}

fn missing(option: &str) -> Error {
    Error::new(
        ErrorKind::Invalid,
        format!(
            "the target database is missing; use {option}, a [target] in the pipeline file, or --postgres URL"
        ),
    )
}

/// Output format.
#[derive(Args)]
pub(crate) struct OutputOptions {
    /// Print one JSON object per line on standard output
    #[arg(long)]
    pub(crate) json: bool,
}

/// Effect of the first interrupt (Ctrl-C or SIGTERM) on running statements. A second interrupt ends the
/// process at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnInterrupt {
    /// Start no more steps, and wait for running statements
    Wait,
    /// Start no more steps, cancel running statements, and wait for running Glue jobs
    Cancel,
    /// Exit at once. Running statements continue in the service, and `resume` finds them
    Leave,
}
