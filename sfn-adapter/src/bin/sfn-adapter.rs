//! `sfn-adapter`: state machines that run pipelines of Redshift statements.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::{Args, Parser, Subcommand, ValueEnum};
use redshift_orchestrator::{Error, ErrorKind, Pipeline};
use serde_json::json;
use sfn_adapter::asl::{self, Form, Options, QueryLanguage, Severity, model::StateMachine};

/// Generates state machines of AWS Step Functions from pipelines.
#[derive(Parser)]
#[command(version, max_term_width = 110, after_help = HELP)]
struct Program {
    #[command(subcommand)]
    command: Command,
}

const HELP: &str = "Exit codes:
  0  done; `lint` found no errors
  1  `lint` found errors
  2  invalid usage or file";

#[derive(Subcommand)]
enum Command {
    /// Print the state machine that runs a pipeline
    Asl(AslOptions),
    /// Find mistakes in a state machine: lost outcomes, endless loops, statements that run twice
    Lint(LintOptions),
    /// Print transitions, requests, delay and cost in dollars of runs whose statements take the given
    /// durations
    Cost(CostOptions),
}

#[derive(Args)]
struct AslOptions {
    /// The pipeline file: TOML, or JSON if its name ends in `.json`
    #[arg(value_name = "PIPELINE")]
    pipeline: PathBuf,

    #[command(flatten)]
    machine: MachineOptions,

    /// Print an object with the definition, the notes and the budget instead of the definition
    #[arg(long)]
    json: bool,

    /// Write requests of the TestState API to this new directory: one for each path through each state. The
    /// expected responses are in expected.json
    #[arg(long, value_name = "DIR")]
    mocks: Option<PathBuf>,
}

#[derive(Args)]
struct LintOptions {
    /// The state machine: a definition in JSON
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Print a list of objects
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct CostOptions {
    /// A state machine in JSON, or a pipeline file, whose cost is computed in all three forms
    #[arg(value_name = "FILE|PIPELINE")]
    file: PathBuf,

    /// Duration of every statement, Glue job and Hudi write, such as 1s, 10m or 24h; may be repeated
    #[arg(long = "duration", value_name = "DURATION", value_parser = duration, num_args = 1.., required = true)]
    durations: Vec<Duration>,

    /// Language of the expressions, for a pipeline
    #[arg(long, value_enum, default_value = "jsonata")]
    query_language: LanguageName,

    /// First pause between two polls, for a pipeline
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    poll_interval: Option<Duration>,

    /// Print an object with the prices and the rows
    #[arg(long)]
    json: bool,
}

/// Settings of a generated state machine.
#[derive(Args)]
struct MachineOptions {
    /// How the state machine runs statements
    #[arg(long, value_enum, default_value = "lambda")]
    form: FormName,

    /// ARN of the function, or a substitution that the deployment replaces
    #[arg(long, value_name = "ARN", default_value = "${LoaderArn}")]
    lambda_arn: String,

    /// ARN of the function of the handler `hudi`, or a substitution. `{table}` is replaced by the name of the
    /// table
    #[arg(long, value_name = "ARN", default_value = "${HudiArn}")]
    hudi_arn: String,

    /// Language of the expressions
    #[arg(long, value_enum, default_value = "jsonata")]
    query_language: LanguageName,

    /// First pause between two polls, such as 5s, which doubles up to a minute. Default: 5s. With `--form
    /// sdk`, polls are long polls, and each pause between them is longer by this value; default: none, unless
    /// the history would be too long
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    poll_interval: Option<Duration>,
}

#[derive(Clone, Copy, ValueEnum)]
enum FormName {
    /// Through the function: submit, wait with growing pauses, status
    Lambda,
    /// Through Step Functions' own integration of the Data API, with long polls
    Sdk,
    /// Through the function, and the event of the statement's end
    Callback,
}

#[derive(Clone, Copy, ValueEnum)]
enum LanguageName {
    /// JSONata
    Jsonata,
    /// JSONPath and intrinsic functions
    Jsonpath,
}

impl From<LanguageName> for QueryLanguage {
    fn from(name: LanguageName) -> Self {
        match name {
            LanguageName::Jsonata => Self::Jsonata,
            LanguageName::Jsonpath => Self::JsonPath,
        }
    }
}

impl MachineOptions {
    fn options(&self) -> Options {
        let mut options = Options::default();
        options.form = match self.form {
            FormName::Lambda => Form::Lambda,
            FormName::Sdk => Form::Sdk,
            FormName::Callback => Form::Callback,
        };
        options.query_language = self.query_language.into();
        options.lambda_arn.clone_from(&self.lambda_arn);
        options.hudi_arn.clone_from(&self.hudi_arn);
        options.poll_interval = self.poll_interval;
        options
    }
}

fn main() -> ExitCode {
    let done = match Program::parse().command {
        Command::Asl(options) => asl(&options),
        Command::Lint(options) => lint(&options),
        Command::Cost(options) => cost(&options),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            say(&format!("error: {}", sentence(&error)));
            ExitCode::from(2)
        }
    }
}

/// Entries of an error's context that name a location.
const PLACES: [&str; 9] =
    ["file", "directory", "pipeline", "step", "parameter", "dependency", "key", "line", "column"];

/// Returns the message of an error with its location and its causes.
fn sentence(error: &Error) -> String {
    let places = PLACES.iter().filter_map(|name| Some(format!("{name} {}", error.context(name)?)));
    let places: Vec<_> = places.collect();
    let places = if places.is_empty() { String::new() } else { format!(" ({})", places.join(", ")) };
    let first = std::error::Error::source(error);
    let causes = std::iter::successors(first, |cause| cause.source());
    let causes: String = causes.map(|cause| format!(": {cause}")).collect();
    format!("{}{places}{causes}", error.message())
}

fn asl(options: &AslOptions) -> Result<ExitCode, Error> {
    let (pipeline, settings) = (read(&options.pipeline)?, options.machine.options());
    let generated = asl::generate(&pipeline, &settings)?;
    if let Some(directory) = &options.mocks {
        write_mocks(directory, &asl::mocks(&pipeline, &settings)?).map_err(|error| {
            Error::new(ErrorKind::Definition, "the requests cannot be written; name a new directory")
                .with_context("directory", directory.display())
                .with_source(error)
        })?;
    }
    if options.json {
        let report = json!({
            "definition": generated.machine,
            "notes": generated.notes,
            "budget": { "events": generated.budget.events, "limit": asl::HISTORY },
        });
        out(&format!("{report:#}\n"));
    } else {
        out(&generated.machine.to_json());
        generated.notes.iter().for_each(|note| say(note));
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes one file for each request, and the list of expected responses.
fn write_mocks(directory: &Path, mocks: &[asl::Mock]) -> io::Result<()> {
    std::fs::create_dir(directory)?;
    let mut expected = Vec::new();
    for (number, mock) in mocks.iter().enumerate() {
        let words = format!("{} {}", mock.state, mock.path).to_lowercase();
        let words: Vec<_> = words
            .split(|character: char| !character.is_ascii_alphanumeric())
            .filter(|word| !word.is_empty())
            .collect();
        let name = format!("{:04}-{}.json", number + 1, words.join("-"));
        std::fs::write(directory.join(&name), format!("{:#}\n", mock.request))?;
        expected.push(json!({
            "file": name, "state": mock.state, "path": mock.path, "status": mock.status, "nextState": mock.next_state,
        }));
    }
    std::fs::write(directory.join("expected.json"), format!("{:#}\n", json!(expected)))
}

fn lint(options: &LintOptions) -> Result<ExitCode, Error> {
    let problem = |message: &str| {
        Error::new(ErrorKind::Definition, message).with_context("file", options.file.display())
    };
    let text = std::fs::read_to_string(&options.file)
        .map_err(|error| problem("the file cannot be read").with_source(error))?;
    let findings = asl::lint(&text).map_err(|error| problem("the file is not JSON").with_source(error))?;
    if options.json {
        out(&format!("{:#}\n", json!(findings)));
    } else {
        for finding in &findings {
            let severity = if finding.severity == Severity::Error { "error" } else { "warning" };
            let state = finding.state.as_ref().map_or(String::new(), |state| format!(" state {state}:"));
            let place = format!("{}:{}", options.file.display(), finding.line);
            out(&format!(
                "{place}: {severity}[{}]{state} {}\n    at {}\n    fix: {}\n",
                finding.rule, finding.reason, finding.pointer, finding.fix
            ));
        }
    }
    let has_errors = findings.iter().any(|finding| finding.severity == Severity::Error);
    Ok(ExitCode::from(u8::from(has_errors)))
}

fn cost(options: &CostOptions) -> Result<ExitCode, Error> {
    let problem = |message: String| {
        Error::new(ErrorKind::Definition, message).with_context("file", options.file.display())
    };
    let mut rows = Vec::new();
    for (form, machine) in machines(options)? {
        for duration in &options.durations {
            let seconds = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
            match asl::cost(&machine, seconds) {
                Ok(cost) => rows.push((form, cost)),
                Err(message) => return Err(problem(format!("{form}, {seconds} s: {message}"))),
            }
        }
    }
    if options.json {
        let rows: Vec<_> = rows.iter().map(|(form, cost)| json!({ "form": form, "cost": cost })).collect();
        out(&format!("{:#}\n", json!({ "prices": asl::PRICES, "rows": rows })));
    } else {
        out(
            "form      duration_s  transitions  invocations  lambda_ms  requests  delay_s  timed_out  dollars_per_1000_runs\n",
        );
        for (form, cost) in &rows {
            out(&format!(
                "{form:<8}  {:>10}  {:>11}  {:>11}  {:>9}  {:>8}  {:>7.1}  {:>9}  {:>21.3}\n",
                cost.duration,
                cost.transitions,
                cost.invocations,
                cost.lambda_ms,
                cost.requests,
                cost.delay,
                cost.timed_out,
                cost.dollars
            ));
        }
        for (form, cost) in rows.iter().filter(|(_, cost)| cost.timed_out > 0) {
            say(&format!(
                "{form}, {} s: the duration exceeds the timeout of a step, so the row is the cost of a run whose step times out and \
                 is cancelled; attempts that timed out: {}",
                cost.duration, cost.timed_out
            ));
        }
        let prices = asl::PRICES;
        say(&format!(
            "prices of {} on {}, without free tiers; 30 ms for each invocation",
            prices.region, prices.date
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns the machine in the file, or the machines of the pipeline in each form.
fn machines(options: &CostOptions) -> Result<Vec<(&'static str, StateMachine)>, Error> {
    let text = std::fs::read_to_string(&options.file).unwrap_or_default();
    let is_machine =
        serde_json::from_str::<serde_json::Value>(&text).is_ok_and(|value| value.get("States").is_some());
    if is_machine {
        let machine = StateMachine::from_json(&text).map_err(|error| {
            Error::new(ErrorKind::Definition, "the state machine cannot be read; `lint` names its mistakes")
                .with_context("file", options.file.display())
                .with_source(error)
        })?;
        return Ok(vec![("machine", machine)]);
    }
    let pipeline = read(&options.file)?;
    let forms = [(Form::Lambda, "lambda"), (Form::Sdk, "sdk"), (Form::Callback, "callback")];
    let machine = |(form, name)| {
        let mut settings = Options::default();
        settings.form = form;
        settings.query_language = options.query_language.into();
        settings.poll_interval = options.poll_interval;
        // The cost does not depend on the names of the functions.
        settings.hudi_arn = "${HudiArn}-{table}".to_owned();
        Ok((name, asl::generate(&pipeline, &settings)?.machine))
    };
    forms.into_iter().map(machine).collect()
}

fn read(file: &Path) -> Result<Pipeline, Error> {
    match file.extension() {
        Some(extension) if extension.eq_ignore_ascii_case("json") => Pipeline::from_json_file(file),
        _ => Pipeline::from_toml_file(file),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let duration = text.parse::<jiff::SignedDuration>().ok().and_then(|duration| duration.try_into().ok());
    duration.ok_or_else(|| "expected a duration such as 5s, 10m or 2h".to_owned())
}

/// Prints the result. Ignores a closed pipe: its reader needs no more output.
fn out(text: &str) {
    let _ = io::stdout().write_all(text.as_bytes());
}

/// Prints a human-readable message.
fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}
