//! [`JobDefinition`]: the definition of a Spark job, and its comparison with a registered job.

use std::{collections::BTreeMap, fmt, time::Duration};

use aws_sdk_glue::types::{ExecutionProperty, Job, JobCommand, JobUpdate, WorkerType};

/// Definition of a Glue job that runs Spark with a Python script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobDefinition {
    name: String,
    role: String,
    script: String,
    glue_version: String,
    workers: (String, i32),
    timeout_minutes: i32,
    max_concurrent_runs: i32,
    default_arguments: BTreeMap<String, String>,
}

impl JobDefinition {
    /// Creates a definition with the job's name, the ARN of its role, and the URL of its script, such as
    /// `s3://bucket/job.py`.
    pub fn new(name: impl Into<String>, role: impl Into<String>, script: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            role: role.into(),
            script: script.into(),
            glue_version: "5.0".into(),
            workers: ("G.1X".into(), 2),
            timeout_minutes: 480,
            max_concurrent_runs: 1,
            default_arguments: BTreeMap::new(),
        }
    }

    /// Sets the version of Glue. Default: `5.0`.
    #[must_use]
    pub fn with_glue_version(mut self, version: impl Into<String>) -> Self {
        self.glue_version = version.into();
        self
    }

    /// Sets the kind and the number of workers. Default: 2 of kind `G.1X`.
    #[must_use]
    pub fn with_workers(mut self, kind: impl Into<String>, number: i32) -> Self {
        self.workers = (kind.into(), number);
        self
    }

    /// Sets the job's timeout, after which Glue ends a run, in whole minutes. A part of a minute counts as a
    /// minute. Default: 8 hours, Glue's own default since version 5.0.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        let seconds = timeout.as_secs().saturating_add(u64::from(timeout.subsec_nanos() > 0));
        let minutes = seconds.div_ceil(60);
        self.timeout_minutes = i32::try_from(minutes).unwrap_or(i32::MAX);
        self
    }

    /// Sets the maximum number of concurrent runs. Default: 1.
    #[must_use]
    pub fn with_max_concurrent_runs(mut self, runs: i32) -> Self {
        self.max_concurrent_runs = runs;
        self
    }

    /// Adds an argument that Glue passes to every run. The name must begin with `--`. The value must not be a
    /// secret, because Glue logs arguments.
    #[must_use]
    pub fn with_default_argument(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.default_arguments.insert(name.into(), value.into());
        self
    }

    /// Returns the name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the update that makes a registered job match this definition. `UpdateJob` replaces all
    /// properties of the job, so the properties that this definition does not set are copied from `job`.
    ///
    /// Turns off Glue's automatic retries, because each of them is a separate run with its own id.
    pub(super) fn update(&self, job: Option<&Job>) -> JobUpdate {
        let mut command = job
            .and_then(|job| job.command.clone())
            .unwrap_or_else(|| JobCommand::builder().name("glueetl").python_version("3").build());
        command.script_location = Some(self.script.clone());
        let mut arguments: BTreeMap<String, String> =
            job.and_then(|job| job.default_arguments.clone()).unwrap_or_default().into_iter().collect();
        arguments.extend(self.default_arguments.clone());
        let update = JobUpdate::builder()
            .role(&self.role)
            .command(command)
            .set_default_arguments(Some(arguments.into_iter().collect()))
            .execution_property(
                ExecutionProperty::builder().max_concurrent_runs(self.max_concurrent_runs).build(),
            )
            .glue_version(&self.glue_version)
            .worker_type(WorkerType::from(self.workers.0.as_str()))
            .number_of_workers(self.workers.1)
            .timeout(self.timeout_minutes)
            .max_retries(0);
        let Some(job) = job else { return update.build() };
        update
            .set_job_mode(job.job_mode.clone())
            .set_job_run_queuing_enabled(job.job_run_queuing_enabled)
            .set_description(job.description.clone())
            .set_log_uri(job.log_uri.clone())
            .set_non_overridable_arguments(job.non_overridable_arguments.clone())
            .set_connections(job.connections.clone())
            .set_security_configuration(job.security_configuration.clone())
            .set_notification_property(job.notification_property.clone())
            .set_code_gen_configuration_nodes(job.code_gen_configuration_nodes.clone())
            .set_execution_class(job.execution_class.clone())
            .set_source_control_details(job.source_control_details.clone())
            .set_maintenance_window(job.maintenance_window.clone())
            .build()
    }

    /// Returns one phrase for each property in which a registered job differs from this definition.
    pub(super) fn differences(&self, job: &Job) -> Vec<String> {
        let mut differences = Vec::new();
        let mut compare = |what: &str, found: Option<String>, wanted: String| {
            let found = found.unwrap_or_else(|| "not set".into());
            if found != wanted {
                differences.push(format!("{what} changes from {found} to {wanted}"));
            }
        };
        let script = job.command.as_ref().and_then(|command| command.script_location.clone());
        // The service's default.
        let concurrent = job.execution_property.as_ref().map_or(1, |property| property.max_concurrent_runs);
        let worker = job.worker_type.as_ref().map(|kind| kind.as_str().to_owned());
        compare("role", job.role.clone(), self.role.clone());
        compare("script", script, self.script.clone());
        compare("Glue version", job.glue_version.clone(), self.glue_version.clone());
        compare("worker type", worker, self.workers.0.clone());
        compare(
            "number of workers",
            job.number_of_workers.map(|n| n.to_string()),
            self.workers.1.to_string(),
        );
        compare("timeout in minutes", job.timeout.map(|n| n.to_string()), self.timeout_minutes.to_string());
        compare(
            "number of concurrent runs",
            Some(concurrent.to_string()),
            self.max_concurrent_runs.to_string(),
        );
        compare("number of retries", Some(job.max_retries.to_string()), "0".into());
        for (name, value) in &self.default_arguments {
            let known = job.default_arguments.as_ref().and_then(|arguments| arguments.get(name));
            compare(&format!("argument {name}"), known.cloned(), value.clone());
        }
        differences
    }
}

/// The result of [`GlueJob::ensure`](super::GlueJob::ensure).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ensured {
    /// The job already matched the definition.
    Unchanged,
    /// The job did not exist and was created.
    Created,
    /// The job differed and was updated. Contains one phrase for each difference.
    Updated(Vec<String>),
}

impl fmt::Display for Ensured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unchanged => f.write_str("the job was up to date"),
            Self::Created => f.write_str("the job was created"),
            Self::Updated(differences) => write!(f, "the job was updated: {}", differences.join("; ")),
        }
    }
}
