//! Scenarios that every [`Journal`] must pass, public so that a journal of your own can be held against them.
//!
//! A [`Place`] opens journals on the same records, each as another process would. [`all`] runs the scenarios one after the other and panics,
//! naming the scenario, at the first that fails.
//!
//! ```
//! use std::sync::Arc;
//! use redshift_orchestrator::{Result, conformance::journal::{self, Place}, journal::MemoryJournal};
//!
//! struct MyPlace(Arc<MemoryJournal>);
//!
//! impl Place for MyPlace {
//!     type Journal = Arc<MemoryJournal>;
//!     async fn open(&self) -> Result<Self::Journal> {
//!         Ok(self.0.clone())
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! journal::all(&MyPlace(Arc::new(MemoryJournal::new()))).await;
//! # }
//! ```

use std::{collections::BTreeSet, future::Future, time::Duration};

use futures::future::join_all;
use jiff::Timestamp;

use crate::{
    ClientToken, ErrorKind, Result, StatementId, Status, StepKey,
    journal::{
        Claim, Ended, Event, Journal, Record, RunBegun, RunEvent, RunRecord, RunResult, Settlement, Standing,
    },
};

/// Where records are kept that several processes may come to.
pub trait Place: Sync {
    /// What is tested.
    type Journal: Journal;

    /// A journal on these records, as a process has it that was not there before.
    fn open(&self) -> impl Future<Output = Result<Self::Journal>> + Send;

    /// Goes into the names of runs. A place that is used twice needs a different one each time.
    fn salt(&self) -> &str {
        ""
    }
}

scenarios! {
    Place;

    /// Nothing is known of what was never written.
    async fn an_unknown_run_is_empty(place) {
        let journal = open(place).await;
        let run = format!("unheard{}", place.salt());
        assert_eq!(journal.run(&run).await.expect("run"), []);
        assert_eq!(journal.entry(&StepKey::new(&run, "a")).await.expect("entry"), None);
    }

    /// What was appended is there for the next process, exactly.
    async fn records_are_there_for_the_next_process(place) {
        let run = format!("kept{}", place.salt());
        {
            let journal = open(place).await;
            for (step, event) in [
                ("a", intent("t-a")),
                ("a", Event::Submitted { id: StatementId::new("id-a") }),
                ("b", intent("t-b")),
                ("a", Event::Ended(ended())),
            ] {
                append(&journal, &run, step, event).await;
            }
        }
        let journal = open(place).await;
        let entries = journal.run(&run).await.expect("run");
        let found: Vec<_> = entries.iter().map(|entry| (entry.key.step.as_str(), entry.key.attempt, &entry.standing)).collect();
        assert_eq!(found, [("a", 1, &Standing::Ended(ended())), ("b", 1, &Standing::Open)]);
        assert_eq!((&entries[0].id, entries[0].intended_at), (&Some(StatementId::new("id-a")), at()));
        assert_eq!((entries[1].token.as_str(), entries[1].name.as_str()), ("t-b", "name t-b"));
        assert_eq!(journal.entry(&entries[0].key).await.expect("entry").as_ref(), Some(&entries[0]));
    }

    /// The last record of a key counts; an intent that is written again begins anew.
    async fn the_last_record_of_a_key_counts(place) {
        let run = format!("folded{}", place.salt());
        let journal = open(place).await;
        let refused = || Event::Refused { error: "not sent: connection refused".into() };
        let unknown = || Event::Unknown { reason: "its submit was not answered".into() };
        let settled = |found| Event::Settled { found, by: Some("ada".into()), because: Some("no rows".into()) };
        for (event, standing) in [
            (intent("t"), Standing::Open),
            (refused(), Standing::Refused("not sent: connection refused".into())),
            (intent("t"), Standing::Open),
            (unknown(), Standing::Unknown("its submit was not answered".into())),
            (settled(Settlement::NeverRan), Standing::Settled(Settlement::NeverRan)),
            (intent("t"), Standing::Open),
            (Event::Ended(ended()), Standing::Ended(ended())),
        ] {
            append(&journal, &run, "a", event).await;
            let entry = journal.entry(&StepKey::new(&run, "a")).await.expect("entry").expect("it was intended");
            assert_eq!(entry.standing, standing);
        }
        let again = StepKey { attempt: 2, ..StepKey::new(&run, "a") };
        journal.append(Record { at: at(), key: again.clone(), event: intent("t2") }).await.expect("append");
        let attempts: Vec<_> = journal.run(&run).await.expect("run").iter().map(|entry| entry.key.attempt).collect();
        assert_eq!(attempts, [1, 2]);
    }

    /// Names of runs and steps may hold any letters, and runs whose names begin alike are apart.
    async fn names_may_hold_anything(place) {
        let salt = place.salt();
        let runs = ["odd", "odd/2026-11-23 06:30", "odd/../x", "odd%2F", "größe 😀", "odd.json", "a\"b\\c\n"];
        let runs: Vec<_> = runs.iter().map(|run| format!("{run}{salt}")).collect();
        {
            let journal = open(place).await;
            for run in &runs {
                append(&journal, run, "s/ü \"1\"\n", intent(run.get(..3).unwrap_or("t"))).await;
            }
        }
        let journal = open(place).await;
        for run in &runs {
            let entries = journal.run(run).await.expect("run");
            let keys: Vec<_> = entries.into_iter().map(|entry| entry.key).collect();
            assert_eq!(keys, [StepKey::new(run, "s/ü \"1\"\n")], "{run}");
        }
    }

    /// Records that come at the same time are all kept.
    async fn what_is_appended_at_the_same_time_is_all_kept(place) {
        let run = format!("crowd{}", place.salt());
        let steps: BTreeSet<_> = (0..60).map(|number| format!("s{number:02}")).collect();
        {
            let journal = open(place).await;
            join_all(steps.iter().map(|step| append(&journal, &run, step, intent(step)))).await;
            assert_eq!(journal.run(&run).await.expect("run").len(), steps.len());
        }
        let kept = open(place).await.run(&run).await.expect("run");
        assert_eq!(kept.into_iter().map(|entry| entry.key.step).collect::<BTreeSet<_>>(), steps);
    }

    /// A record whose future was dropped is there or not; those after it are kept.
    async fn a_dropped_append_breaks_nothing(place) {
        let run = format!("dropped{}", place.salt());
        {
            let journal = open(place).await;
            append(&journal, &run, "before", intent("t")).await;
            let record = Record { at: at(), key: StepKey::new(&run, "dropped"), event: intent("t") };
            let _ = tokio::time::timeout(Duration::ZERO, journal.append(record)).await;
            append(&journal, &run, "after", intent("t")).await;
        }
        let kept = open(place).await.run(&run).await.expect("run");
        let steps: Vec<_> = kept.iter().map(|entry| entry.key.step.as_str()).filter(|step| *step != "dropped").collect();
        assert_eq!(steps, ["after", "before"]);
    }

    /// While one process is at a run, a second one cannot be: it cannot open the journal, or claim the run. One that has ended makes way.
    async fn a_run_has_one_process_at_a_time(place) {
        let run = format!("claimed{}", place.salt());
        let claim = Claim { pipeline: format!("nightly{}", place.salt()), run: run.clone(), since: at() };
        let first = open(place).await;
        let active = first.claim(&claim, true).await.expect("claim");
        let begun = RunEvent::RunBegun(RunBegun { pipeline: claim.pipeline.clone(), ..RunBegun::default() });
        first.append_run(RunRecord { at: at(), run: run.clone(), event: begun }).await.expect("append");
        append(&first, &run, "a", intent("t")).await;
        let refused = match place.open().await {
            Err(error) => error,
            Ok(second) => second.claim(&claim, true).await.expect_err("a process is at it"),
        };
        assert_eq!((refused.kind(), refused.context("active_run")), (ErrorKind::Overlap, Some(run.as_str())), "{refused}");
        let over = RunEvent::RunEnded { result: RunResult::Finished };
        first.append_run(RunRecord { at: at(), run: run.clone(), event: over }).await.expect("append");
        drop((active, first));
        let second = open(place).await;
        let _active = second.claim(&claim, true).await.expect("the first one is gone");
        assert_eq!(second.run(&run).await.expect("run").len(), 1, "and what it wrote is seen");
    }
}

async fn open<P: Place>(place: &P) -> P::Journal {
    place.open().await.expect("open")
}

async fn append(journal: &impl Journal, run: &str, step: &str, event: Event) {
    journal.append(Record { at: at(), key: StepKey::new(run, step), event }).await.expect("append");
}

fn at() -> Timestamp {
    Timestamp::from_millisecond(1_795_415_400_123).expect("a time")
}

fn intent(token: &str) -> Event {
    Event::Intent { token: ClientToken::new(token).expect("a short token"), name: format!("name {token}") }
}

fn ended() -> Ended {
    Ended {
        status: Status::Failed,
        error: Some("ERROR: \"quoted\"\nand on two lines".into()),
        timed_out: true,
        executing: Some(Duration::from_millis(1_500)),
        rows: Some(7),
        has_result_set: true,
    }
}
