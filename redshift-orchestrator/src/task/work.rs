//! [`TaskWork`]: the content of a step that is not a statement.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

/// Name of the argument by which a run of a Glue job is recognised, because a start has no client token.
pub const RUN_TOKEN: &str = "--run-token";

/// Kind of a step that is not a statement. It is also the step's key in a pipeline file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum TaskKind {
    /// The run of an AWS Glue job.
    Glue,
    /// Raw files that are taken in by a Hudi table.
    Hudi,
}

impl TaskKind {
    /// Returns the key in a pipeline file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Glue => "glue",
            Self::Hudi => "hudi",
        }
    }
}

impl fmt::Display for TaskKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Work of a step that is not a statement.
///
/// `T` is the type of the texts. In the definition of a step, they are strings that may contain `${…}`; in a
/// [`TaskCall`](super::TaskCall), they contain the values of the run; in a
/// [template](crate::pipeline::StepTemplate), they are split at their parameters.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TaskWork<T = String> {
    /// The run of an AWS Glue job.
    Glue(GlueRun<T>),
    /// Raw files that are taken in by a Hudi table.
    Hudi(HudiUpsert<T>),
}

/// The run of an AWS Glue job.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GlueRun<T = String> {
    /// Name of the job.
    pub job: T,
    /// Arguments of the run, which replace the job's default arguments. Their names begin with `--`.
    pub arguments: BTreeMap<String, T>,
}

/// Raw files that are taken in by a Hudi table, each once.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct HudiUpsert<T = String> {
    /// Name of the table.
    pub table: T,
    /// URLs of the files, in the order in which their rows apply.
    pub files: Vec<T>,
}

impl GlueRun {
    /// Creates a run without arguments.
    pub fn new(job: impl Into<String>) -> Self {
        Self { job: job.into(), arguments: BTreeMap::new() }
    }

    /// Sets an argument. Its name begins with `--`.
    #[must_use]
    pub fn with_argument(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.arguments.insert(name.into(), value.into());
        self
    }
}

impl HudiUpsert {
    /// Creates the work of taking these files in.
    pub fn new<S: Into<String>>(table: impl Into<String>, files: impl IntoIterator<Item = S>) -> Self {
        Self { table: table.into(), files: files.into_iter().map(Into::into).collect() }
    }
}

impl<T> TaskWork<T> {
    /// Returns the kind.
    pub fn kind(&self) -> TaskKind {
        match self {
            Self::Glue(_) => TaskKind::Glue,
            Self::Hudi(_) => TaskKind::Hudi,
        }
    }

    /// Returns all texts.
    pub(crate) fn texts(&self) -> Vec<&T> {
        self.named_texts().into_iter().map(|(_, text)| text).collect()
    }

    /// Returns all texts with their names. Two works are equal if their names and texts are.
    pub(crate) fn named_texts(&self) -> Vec<(&str, &T)> {
        match self {
            Self::Glue(run) => {
                let arguments = run.arguments.iter().map(|(name, value)| (name.as_str(), value));
                std::iter::once(("job", &run.job)).chain(arguments).collect()
            }
            Self::Hudi(upsert) => {
                let files = upsert.files.iter().map(|file| ("file", file));
                std::iter::once(("table", &upsert.table)).chain(files).collect()
            }
        }
    }

    /// Converts all texts, or returns the first error.
    pub(crate) fn try_map<'a, U, E>(
        &'a self,
        convert: impl Fn(&'a T) -> Result<U, E>,
    ) -> Result<TaskWork<U>, E> {
        Ok(match self {
            Self::Glue(run) => {
                let argument = |(name, value): (&String, &'a T)| Ok((name.clone(), convert(value)?));
                let arguments = run.arguments.iter().map(argument).collect::<Result<_, E>>()?;
                TaskWork::Glue(GlueRun { job: convert(&run.job)?, arguments })
            }
            Self::Hudi(upsert) => TaskWork::Hudi(HudiUpsert {
                table: convert(&upsert.table)?,
                files: upsert.files.iter().map(&convert).collect::<Result<_, E>>()?,
            }),
        })
    }
}

impl TaskWork {
    /// Returns a description without arguments and files: `Glue job clean-customer`, `Hudi table customer, 1
    /// file`.
    pub fn summary(&self) -> String {
        match self {
            Self::Glue(run) => format!("Glue job {}", run.job),
            Self::Hudi(upsert) => match upsert.files.len() {
                1 => format!("Hudi table {}, 1 file", upsert.table),
                files => format!("Hudi table {}, {files} files", upsert.table),
            },
        }
    }

    /// Returns the target that the journal records, such as `glue/clean-customer`.
    pub(crate) fn target(&self) -> String {
        match self {
            Self::Glue(run) => format!("glue/{}", run.job),
            Self::Hudi(upsert) => format!("hudi/{}", upsert.table),
        }
    }
}

/// Prints no values, because they may come from the parameters of a run.
impl<T> fmt::Debug for TaskWork<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Glue(run) => run.fmt(f),
            Self::Hudi(upsert) => upsert.fmt(f),
        }
    }
}

impl<T> fmt::Debug for GlueRun<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.arguments.keys().collect();
        f.debug_struct("GlueRun").field("arguments", &names).finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for HudiUpsert<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HudiUpsert").field("files", &self.files.len()).finish_non_exhaustive()
    }
}
