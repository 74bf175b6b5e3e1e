//! The process that the test kills.

use std::{
    fmt,
    fs::OpenOptions,
    io::Write,
    path::PathBuf,
    str::FromStr,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use redshift_orchestrator::{
    Backoff, ClientToken, DataApiExecutor, Description, ExecutionMode, Orchestrator, PageToken, Pipeline,
    Result, ResultPage, Run, Statement, StatementExecutor, StatementFilter, StatementId, StatementPage,
    Submitted, Target, WaitTime,
    journal::{FileJournal, Journal, Record},
    pipeline::Step,
};
use rustix::process::{Signal, getpid, kill_process};

use crate::{
    emulator::sdk_config,
    intercept::{Intercept, Intercepted},
};

/// The moment at which the child dies.
#[derive(Clone, Copy, Debug)]
pub(super) enum Moment {
    /// The child kills itself at this interaction with the journal or the service.
    Interaction { number: u32, phase: Phase },
    /// The parent kills the child after the child has printed this number of lines.
    Line(usize),
}

/// Point within an interaction.
#[derive(Clone, Copy, Debug)]
pub(super) enum Phase {
    Before,
    /// After polling a request this number of times modulo 16, or after writing this share of a record's
    /// bytes (in 256ths).
    Within(u8),
    After,
}

impl Moment {
    pub(super) fn drawn(draw: &mut fastrand::Rng) -> Self {
        if draw.u8(0..4) == 0 {
            return Self::Line(draw.usize(1..50));
        }
        let phase = match draw.u8(0..3) {
            0 => Phase::Before,
            1 => Phase::After,
            _ => Phase::Within(draw.u8(..)),
        };
        Self::Interaction { number: draw.u32(0..26), phase }
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interaction { number, phase: Phase::Before } => write!(f, "{number} before 0"),
            Self::Interaction { number, phase: Phase::Within(share) } => write!(f, "{number} within {share}"),
            Self::Interaction { number, phase: Phase::After } => write!(f, "{number} after 0"),
            Self::Line(number) => write!(f, "line {number}"),
        }
    }
}

/// Parses the moment that the parent passes. The parent never passes [`Moment::Line`].
impl FromStr for Moment {
    type Err = ();

    fn from_str(text: &str) -> std::result::Result<Self, ()> {
        let mut words = text.split(' ');
        let number = words.next().and_then(|word| word.parse().ok()).ok_or(())?;
        let phase = words.next().ok_or(())?;
        let share = words.next().and_then(|word| word.parse().ok()).ok_or(())?;
        let phase = match phase {
            "before" => Phase::Before,
            "within" => Phase::Within(share),
            _ => Phase::After,
        };
        Ok(Self::Interaction { number, phase })
    }
}

/// Names of the steps, in alphabetical order.
pub(super) const STEPS: [&str; 6] = ["batch", "call", "each", "insert", "last", "slow"];

/// Returns a pipeline with every kind of submit. Two steps run at a time.
pub(super) fn pipeline(run: &str) -> Pipeline {
    let insert = |step: &str| format!("INSERT INTO ledger VALUES ('{run}', '{step}')");
    let call = |step: &str, seconds: f64| format!("CALL book('{run}', '{step}', {seconds})");
    Pipeline::builder("killed")
        .with_concurrency(2)
        .with_step(Step::sql("insert", insert("insert")))
        .with_step(
            Step::sql("call", "CALL book(:run, :step, 0)")
                .with_parameter("run", run)
                .with_parameter("step", "call"),
        )
        .with_step(
            Step::batch("batch", ["SELECT 1".to_owned(), insert("batch")], ExecutionMode::Transaction)
                .after(["insert"]),
        )
        .with_step(
            Step::batch("each", [insert("each"), "SELECT 1".to_owned()], ExecutionMode::AutoCommit)
                .after(["call"]),
        )
        .with_step(Step::sql("slow", call("slow", 0.03)).after(["insert"]))
        .with_step(Step::sql("last", insert("last")).after(["batch", "each", "slow"]))
        .build()
        .unwrap()
}

/// Entry point of the child, not a test. The parent starts it and configures it with environment variables.
/// `scripts/test` skips it.
#[tokio::test]
#[ignore = "started by the test that kills it"]
async fn is_killed() {
    let url = std::env::var("KILL_URL").expect("KILL_URL is not set; the parent test sets it");
    let run = std::env::var("KILL_RUN").unwrap();
    let journal = PathBuf::from(std::env::var("KILL_JOURNAL").unwrap());
    let moment = std::env::var("KILL_AT").unwrap().parse().ok();
    let flawed = std::env::var("KILL_FLAWED").unwrap() == "true";
    let end = Arc::new(End { moment, flawed, interactions: Mutex::new(0) });
    let executor = DataApiExecutor::new(&sdk_config(&url), Target::cluster("dwh", "dev"));
    let journal = Intercepted(Mortal {
        inner: FileJournal::open(&journal).unwrap(),
        end: end.clone(),
        journal: Some(journal),
    });
    let orchestrator = Orchestrator::new(Mortal { inner: executor, end, journal: None })
        .with_journal(journal)
        .with_backoff(Backoff::new(std::time::Duration::from_millis(5)));
    let report = pipeline(&run).run(&orchestrator, Run::new(run)).await.unwrap();
    assert!(report.is_success(), "{report}");
}

/// The moment at which the process must die, and the flaw to test.
#[derive(Debug)]
struct End {
    moment: Option<Moment>,
    /// `true` to use a new client token for each submit.
    flawed: bool,
    interactions: Mutex<u32>,
}

impl End {
    /// Counts an interaction and prints it for the parent. Returns the point at which the process must die in
    /// it, if any.
    fn next(&self, what: &str) -> Option<Phase> {
        let mut interactions = self.interactions.lock().unwrap();
        let number = *interactions;
        *interactions += 1;
        println!("{number} {what}");
        match self.moment {
            Some(Moment::Interaction { number: last, phase }) if last == number => Some(phase),
            _ => None,
        }
    }

    async fn meet<T>(&self, what: &str, interaction: impl Future<Output = T>) -> T {
        match self.next(what) {
            None => interaction.await,
            Some(Phase::Before) => die(),
            Some(Phase::After) => {
                interaction.await;
                die()
            }
            Some(Phase::Within(polls)) => {
                let mut interaction = std::pin::pin!(interaction);
                for _ in 0..polls % 16 {
                    if futures::poll!(&mut interaction).is_ready() {
                        break;
                    }
                    tokio::task::yield_now().await;
                }
                die()
            }
        }
    }
}

/// Kills this process with SIGKILL.
fn die() -> ! {
    let _ = kill_process(getpid(), Signal::KILL);
    std::process::abort()
}

/// Wraps an executor or a journal, and kills the process at the planned moment.
struct Mortal<T> {
    inner: T,
    end: Arc<End>,
    journal: Option<PathBuf>,
}

impl<T> fmt::Debug for Mortal<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mortal")
    }
}

#[async_trait]
impl<E: StatementExecutor> StatementExecutor for Mortal<E> {
    async fn submit(&self, statement: &Statement, wait: Option<WaitTime>) -> Result<Submitted> {
        let mut statement = statement.clone();
        if self.end.flawed {
            let fresh = format!("{}-{}", std::process::id(), self.end.interactions.lock().unwrap());
            statement = statement.with_client_token(ClientToken::new(fresh)?);
        }
        self.end.meet("submit", self.inner.submit(&statement, wait)).await
    }

    async fn describe(&self, id: &StatementId, wait: Option<WaitTime>) -> Result<Description> {
        self.end.meet("describe", self.inner.describe(id, wait)).await
    }

    async fn cancel(&self, id: &StatementId) -> Result<bool> {
        self.end.meet("cancel", self.inner.cancel(id)).await
    }

    async fn result(&self, id: &StatementId, page: Option<PageToken>) -> Result<ResultPage> {
        self.inner.result(id, page).await
    }

    async fn list(&self, filter: &StatementFilter, page: Option<PageToken>) -> Result<StatementPage> {
        self.end.meet("list", self.inner.list(filter, page)).await
    }

    fn target(&self) -> Option<redshift_orchestrator::Target> {
        self.inner.target()
    }
}

#[async_trait]
impl<J: Journal> Intercept for Mortal<J> {
    fn inner(&self) -> &dyn Journal {
        &self.inner
    }

    async fn append(&self, record: Record) -> Result<()> {
        match self.end.next("append") {
            None => self.inner.append(record).await,
            Some(Phase::Before) => die(),
            Some(Phase::After) => {
                self.inner.append(record).await?;
                die()
            }
            Some(Phase::Within(share)) => {
                // Writes the part of the line that had reached the kernel when the process was killed.
                let line = serde_json::to_vec(&record).unwrap();
                let path = self.journal.as_ref().unwrap();
                let mut file = OpenOptions::new().append(true).open(path).unwrap();
                file.write_all(&line[..line.len() * usize::from(share) / 256]).unwrap();
                die()
            }
        }
    }
}
