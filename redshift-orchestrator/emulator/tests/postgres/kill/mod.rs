//! Kills processes with SIGKILL and resumes them. Every step must take effect exactly once.
//!
//! A child process runs pipelines with a file journal, through the real SDK and the program
//! `redshift-data-emulator`, on PostgreSQL. It dies 200 times, at moments drawn from a seed: either it kills
//! itself before, within or after an interaction with the journal or the service, or its parent kills it
//! after it has printed a number of lines. In some rounds the emulator is killed, too. The next child
//! continues with the same journal. The effects are read from an append-only table.
//!
//! Set `SEED` to draw other moments, and `KILLS` to change the number of deaths.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader, Read},
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
};

use redshift_orchestrator::{
    DataApiExecutor, StatementExecutor, StatementFilter, Target,
    journal::{EntryState, FileJournal, Journal},
};

use crate::{
    emulator::sdk_config,
    harness::Database,
    process::{Emulator, emulator},
};

mod child;

use child::{Moment, STEPS};

const PREPARE: &str = "
    CREATE TABLE ledger (run text NOT NULL, step text NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp());
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'the ledger is only appended to'; END $$;
    CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger EXECUTE FUNCTION refuse();
    CREATE PROCEDURE book(run text, step text, seconds float) LANGUAGE plpgsql AS $$
        BEGIN INSERT INTO ledger VALUES (run, step); PERFORM pg_sleep(seconds); END $$;";

#[tokio::test]
#[ignore = "needs a PostgreSQL server: scripts/test"]
async fn a_pipeline_killed_at_any_moment_runs_every_step_exactly_once() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let (seed, kills) = (number("SEED").unwrap_or(1), number("KILLS").unwrap_or(200));
    let played = play("kill", seed, kills, false).await;
    for (run, booked) in &played.ledger {
        let once: Vec<(String, i64)> = STEPS.iter().map(|step| ((*step).to_owned(), 1)).collect();
        assert_eq!(*booked, once, "{run}; replay with SEED={seed} KILLS={kills}");
    }
    no_statement_is_lost(&played).await;
    println!(
        "{kills} kills of the child and {} of the emulator in {} runs, seed {seed}",
        played.emulators_killed,
        played.ledger.len()
    );
}

/// Shows that the test detects a real fault: if each submit has a new client token, as SDKs generate them,
/// steps take effect twice.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: scripts/test"]
async fn without_stable_tokens_the_same_kills_double_steps() {
    let played = play("kill_flawed", 1, 40, true).await;
    let doubled = played.ledger.iter().flat_map(|(_, booked)| booked).filter(|(_, count)| *count > 1);
    assert!(doubled.count() > 0, "{:?}", played.ledger);
}

/// State after all runs have ended.
struct Played {
    /// For each run, its steps and the number of times each took effect.
    ledger: Vec<(String, Vec<(String, i64)>)>,
    emulators_killed: u64,
    emulator: Emulator,
    directory: tempfile::TempDir,
}

async fn play(name: &str, seed: u64, kills: u64, flawed: bool) -> Played {
    let mut draw = fastrand::Rng::with_seed(seed);
    let database = Database::new(name).await;
    database.client.batch_execute(PREPARE).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let mut emulator = listening("127.0.0.1:0", &database.url);
    let (mut killed, mut emulators_killed, mut runs) = (0, 0, 0);
    while killed < kills {
        let run = format!("run-{runs}");
        // Number of times that this run is killed. Then it may end.
        let mut deaths = draw.u64(1..10).min(kills - killed);
        loop {
            let moment = (deaths > 0).then(|| Moment::drawn(&mut draw));
            let mut child = Run::start(&emulator.url, &directory.path().join(JOURNAL), &run, moment, flawed);
            if draw.u8(0..8) == 0 {
                // Waits until the child has printed some lines, which shows that it is working.
                child.read_lines(draw.usize(1..20));
                let address = emulator.url.strip_prefix("http://").unwrap().to_owned();
                // Frees the port before the next emulator binds it.
                drop(emulator);
                emulator = listening(&address, &database.url);
                emulators_killed += 1;
            }
            if child.end(moment) {
                break;
            }
            (killed, deaths) = (killed + 1, deaths - 1);
        }
        runs += 1;
    }
    // Counts the effects at the very end, so that late ones are included.
    let mut ledger = Vec::new();
    for run in (0..runs).map(|run| format!("run-{run}")) {
        let query = "SELECT step, count(*) FROM ledger WHERE run = $1 GROUP BY step ORDER BY step";
        let rows = database.client.query(query, &[&run]).await.unwrap();
        ledger.push((run, rows.iter().map(|row| (row.get(0), row.get(1))).collect()));
    }
    Played { ledger, emulators_killed, emulator, directory }
}

const JOURNAL: &str = "journal.jsonl";

/// Checks that the journal has the outcome of every statement that the service has recorded.
async fn no_statement_is_lost(played: &Played) {
    let executor = DataApiExecutor::new(&sdk_config(&played.emulator.url), Target::cluster("dwh", "dev"));
    let journal = FileJournal::open(played.directory.path().join(JOURNAL)).unwrap();
    for (run, _) in &played.ledger {
        let entries = journal.entries(run).await.unwrap();
        assert!(entries.iter().all(|entry| matches!(entry.state, EntryState::Ended(_))), "{entries:?}");
        let known: BTreeSet<_> = entries.into_iter().filter_map(|entry| entry.id).collect();
        let filter = StatementFilter::default().with_name_prefix(format!("killed/{run}/"));
        let (mut recorded, mut page) = (BTreeSet::new(), None);
        loop {
            let answer = executor.list(&filter, page).await.unwrap();
            recorded.extend(answer.statements.into_iter().map(|statement| statement.id));
            page = answer.next;
            if page.is_none() {
                break;
            }
        }
        assert_eq!(known, recorded, "{run}");
    }
}

/// Starts an emulator at this address with this database.
fn listening(address: &str, database: &str) -> Emulator {
    Emulator::start(&mut emulator(&["--listen", address, "--postgres", database]))
}

/// Child process that runs a pipeline: this test program, limited to one test.
struct Run {
    process: Child,
    lines: BufReader<ChildStdout>,
}

impl Run {
    fn start(url: &str, journal: &Path, run: &str, moment: Option<Moment>, flawed: bool) -> Self {
        let own = |moment: &Moment| match moment {
            Moment::Interaction { .. } => Some(moment.to_string()),
            Moment::Line(_) => None,
        };
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kill::child::is_killed", "--ignored", "--nocapture"])
            .env("KILL_URL", url)
            .env("KILL_JOURNAL", journal)
            .env("KILL_RUN", run)
            .env("KILL_FLAWED", flawed.to_string())
            .env("KILL_AT", moment.as_ref().and_then(own).unwrap_or_default())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap());
        Self { process, lines }
    }

    /// Reads up to `count` lines, fewer if the output ends.
    fn read_lines(&mut self, count: usize) {
        let mut line = String::new();
        for _ in 0..count {
            line.clear();
            if self.lines.read_line(&mut line).unwrap() == 0 {
                return;
            }
        }
    }

    /// Waits for the child. Returns `true` if it ended by itself with every step finished, and `false` if it
    /// was killed.
    fn end(mut self, moment: Option<Moment>) -> bool {
        if let Some(Moment::Line(number)) = moment {
            self.read_lines(number);
            self.process.kill().unwrap();
        }
        self.read_lines(usize::MAX);
        let status = self.process.wait().unwrap();
        if status.signal() == Some(9) {
            return false;
        }
        let mut words = String::new();
        self.process.stderr.take().unwrap().read_to_string(&mut words).unwrap();
        assert!(status.success(), "the child ended with {status}: {words}");
        true
    }
}
