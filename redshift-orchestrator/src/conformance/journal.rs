//! Conformance tests: scenarios that every [`Journal`] must pass. Use them to test your own journal.
//!
//! A [`JournalFixture`] opens several journals on the same storage, which represent separate processes.
//! [`all`] runs the scenarios one after the other, and finally panics with the names and messages of all
//! scenarios that failed. [`failures`] returns them instead.
//!
//! ```
//! use std::sync::Arc;
//! use redshift_orchestrator::{Result, conformance::journal::{self, JournalFixture}, journal::MemoryJournal};
//!
//! struct MyFixture(Arc<MemoryJournal>);
//!
//! impl JournalFixture for MyFixture {
//!     type Journal = Arc<MemoryJournal>;
//!     async fn open(&self) -> Result<Self::Journal> {
//!         Ok(self.0.clone())
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! journal::all(&MyFixture(Arc::new(MemoryJournal::new()))).await;
//! # }
//! ```

use std::{collections::BTreeSet, future::Future, time::Duration};

use futures::future::join_all;
use jiff::Timestamp;

use crate::{
    ClientToken, ErrorKind, FailureKind, Result, StatementId, Status, StepKey,
    journal::{
        ActiveRun, Claim, EntryState, Event, Journal, KeepReason, Prune, Pruned, Record, RecordedOutcome,
        RunBegun, RunCursor, RunEvent, RunOutcome, RunRecord, SettledOutcome, Settlement, prune,
    },
};

/// Storage of a journal under test. Several processes can open it.
pub trait JournalFixture: Sync {
    /// Type of the journal.
    type Journal: Journal;

    /// Opens a journal on the storage. Each call represents a new process.
    fn open(&self) -> impl Future<Output = Result<Self::Journal>> + Send;

    /// Returns a string that becomes part of the names of all runs. Must be different in each run of the
    /// scenarios on the same storage. Default: empty.
    fn name_suffix(&self) -> &str {
        ""
    }
}

scenarios! {
    JournalFixture;

    /// An unknown run has no records.
    async fn an_unknown_run_has_no_entries(fixture) {
        let journal = open(fixture).await;
        let run = format!("unheard{}", fixture.name_suffix());
        assert_eq!(journal.entries(&run).await.expect("entries"), []);
        assert_eq!(journal.entry(&StepKey::new(&run, "a")).await.expect("entry"), None);
    }

    /// A process that opens the journal reads exactly the records that the previous process appended.
    async fn records_are_visible_to_the_next_process(fixture) {
        let run = format!("kept{}", fixture.name_suffix());
        {
            let journal = open(fixture).await;
            for (step, event) in [
                ("a", intent("t-a")),
                ("a", Event::Submitted { id: StatementId::new("id-a") }),
                ("b", intent("t-b")),
                ("a", Event::Ended(ended())),
            ] {
                append(&journal, &run, step, event).await;
            }
        }
        let journal = open(fixture).await;
        let entries = journal.entries(&run).await.expect("entries");
        let found: Vec<_> = entries.iter().map(|entry| (entry.key.step.as_str(), entry.key.attempt, &entry.state)).collect();
        assert_eq!(found, [("a", 1, &EntryState::Ended(ended())), ("b", 1, &EntryState::Open)]);
        assert_eq!((&entries[0].id, entries[0].intended_at), (&Some(StatementId::new("id-a")), at()));
        assert_eq!((entries[1].token.as_str(), entries[1].name.as_str()), ("t-b", "name t-b"));
        assert_eq!(journal.entry(&entries[0].key).await.expect("entry").as_ref(), Some(&entries[0]));
    }

    /// The last record of a key determines its state. Another intent begins the attempt again.
    async fn the_last_record_of_a_key_applies(fixture) {
        let run = format!("folded{}", fixture.name_suffix());
        let journal = open(fixture).await;
        let not_submitted = || Event::NotSubmitted { error: "not sent: connection refused".into() };
        let unknown = || Event::Unknown { reason: "its submit got no response".into() };
        let settled = |outcome| Event::Settled(Settlement::new(outcome).with_operator("ada").with_reason("no rows"));
        for (event, state) in [
            (intent("t"), EntryState::Open),
            (not_submitted(), EntryState::NotSubmitted("not sent: connection refused".into())),
            (intent("t"), EntryState::Open),
            (unknown(), EntryState::Unknown("its submit got no response".into())),
            (settled(SettledOutcome::NeverRan), EntryState::Settled(SettledOutcome::NeverRan)),
            // A submit that was still waiting when the attempt was settled.
            (Event::Submitted { id: StatementId::new("late") }, EntryState::Open),
            (intent("t"), EntryState::Open),
            (Event::Ended(ended()), EntryState::Ended(ended())),
        ] {
            append(&journal, &run, "a", event).await;
            let entry = journal.entry(&StepKey::new(&run, "a")).await.expect("entry").expect("the attempt has an intent");
            assert_eq!(entry.state, state);
        }
        let again = StepKey { attempt: 2, ..StepKey::new(&run, "a") };
        journal.append(Record { at: at(), key: again.clone(), event: intent("t2") }).await.expect("append");
        let attempts: Vec<_> = journal.entries(&run).await.expect("entries").iter().map(|entry| entry.key.attempt).collect();
        assert_eq!(attempts, [1, 2]);
    }

    /// Another intent with the same token keeps the time of the first one, because the service may remember
    /// the token since then. After a record that the statement did not run, the time of the new intent
    /// applies.
    async fn a_repeated_intent_keeps_the_time_of_the_first(fixture) {
        let run = format!("repeated{}", fixture.name_suffix());
        let (journal, key) = (open(fixture).await, StepKey::new(&run, "a"));
        let later = at() + Duration::from_hours(7);
        let unknown = Event::Unknown { reason: "its submit got no response".into() };
        let not_submitted = Event::NotSubmitted { error: "not sent: connection refused".into() };
        for (at, event, intended_at) in [
            (at(), intent("t"), at()),
            (later, intent("t"), at()),
            (later, unknown, at()),
            (later, intent("t"), at()),
            (later, not_submitted, at()),
            (later, intent("t"), later),
        ] {
            let is_intent = matches!(event, Event::Intent { .. });
            journal.append(Record { at, key: key.clone(), event }).await.expect("append");
            let entry = journal.entry(&key).await.expect("entry").expect("the attempt has an intent");
            assert_eq!(entry.intended_at, intended_at);
            assert_eq!(entry.state == EntryState::Open, is_intent);
        }
    }

    /// Names of runs and steps can contain any characters. Runs whose names have a common prefix are
    /// separate.
    async fn names_may_contain_any_characters(fixture) {
        let suffix = fixture.name_suffix();
        let runs = ["odd", "odd/2026-11-23 06:30", "odd/../x", "odd%2F", "größe 😀", "odd.json", "a\"b\\c\n"];
        let runs: Vec<_> = runs.iter().map(|run| format!("{run}{suffix}")).collect();
        {
            let journal = open(fixture).await;
            for run in &runs {
                append(&journal, run, "s/ü \"1\"\n", intent(run.get(..3).unwrap_or("t"))).await;
            }
        }
        let journal = open(fixture).await;
        for run in &runs {
            let entries = journal.entries(run).await.expect("entries");
            let keys: Vec<_> = entries.into_iter().map(|entry| entry.key).collect();
            assert_eq!(keys, [StepKey::new(run, "s/ü \"1\"\n")], "{run}");
        }
    }

    /// All concurrently appended records are kept.
    async fn concurrent_appends_are_all_kept(fixture) {
        let run = format!("crowd{}", fixture.name_suffix());
        let steps: BTreeSet<_> = (0..60).map(|number| format!("s{number:02}")).collect();
        {
            let journal = open(fixture).await;
            join_all(steps.iter().map(|step| append(&journal, &run, step, intent(step)))).await;
            assert_eq!(journal.entries(&run).await.expect("entries").len(), steps.len());
        }
        let kept = open(fixture).await.entries(&run).await.expect("entries");
        assert_eq!(kept.into_iter().map(|entry| entry.key.step).collect::<BTreeSet<_>>(), steps);
    }

    /// If the future of an append is dropped, the record is stored completely or not at all. Later records
    /// are stored.
    async fn a_dropped_append_leaves_the_journal_usable(fixture) {
        let run = format!("dropped{}", fixture.name_suffix());
        {
            let journal = open(fixture).await;
            append(&journal, &run, "before", intent("t")).await;
            let record = Record { at: at(), key: StepKey::new(&run, "dropped"), event: intent("t") };
            let _ = tokio::time::timeout(Duration::ZERO, journal.append(record)).await;
            append(&journal, &run, "after", intent("t")).await;
        }
        let kept = open(fixture).await.entries(&run).await.expect("entries");
        let steps: Vec<_> = kept.iter().map(|entry| entry.key.step.as_str()).filter(|step| *step != "dropped").collect();
        assert_eq!(steps, ["after", "before"]);
    }

    /// While one process is running a run, a second process cannot claim the run; a journal may also reject
    /// the second process when it opens the journal. When the first process has ended, the second one can
    /// claim the run.
    async fn a_run_is_active_in_one_process_at_a_time(fixture) {
        let run = format!("claimed{}", fixture.name_suffix());
        let claim = Claim::new(format!("nightly{}", fixture.name_suffix()), &run, at()).with_exclusive(true);
        let first = open(fixture).await;
        let active = first.claim(&claim).await.expect("claim");
        let begun = RunEvent::RunBegun(RunBegun { pipeline: claim.pipeline.clone(), ..RunBegun::default() });
        first.append_run(RunRecord { at: at(), run: run.clone(), event: begun }).await.expect("append");
        append(&first, &run, "a", intent("t")).await;
        let refused = match fixture.open().await {
            Err(error) => error,
            Ok(second) => second.claim(&claim).await.expect_err("a process is running it"),
        };
        assert_eq!((refused.kind(), refused.context("active_run")), (ErrorKind::Overlap, Some(run.as_str())), "{refused}");
        let over = RunEvent::RunEnded { result: RunOutcome::Finished };
        first.append_run(RunRecord { at: at(), run: run.clone(), event: over }).await.expect("append");
        drop((active, first));
        let second = open(fixture).await;
        let _active = second.claim(&claim).await.expect("the first process has ended");
        assert_eq!(second.entries(&run).await.expect("entries").len(), 1, "the records of the first process are visible");
    }

    /// A claim of an attempt excludes only other claims of the attempt, and does not make the run active.
    async fn a_claim_of_an_attempt_excludes_only_this_attempt(fixture) {
        let run = format!("attempted{}", fixture.name_suffix());
        let claim = |step: &str| Claim::of_attempt(&StepKey::new(&run, step), at());
        let journal = open(fixture).await;
        append(&journal, &run, "a", intent("t")).await;
        let active = journal.claim(&claim("a")).await.expect("claim");
        let refused = journal.claim(&claim("a")).await.expect_err("another call has claimed it");
        assert_eq!((refused.kind(), refused.context("active_run")), (ErrorKind::Overlap, Some(run.as_str())), "{refused}");
        let is_active = journal.run_entry(&run).await.expect("run_entry").is_some_and(|entry| entry.is_active);
        assert!(!is_active, "the claim of an attempt does not make its run active");
        let other = journal.claim(&claim("b")).await.expect("another attempt");
        let whole = journal.claim(&Claim::new("", &run, at())).await.expect("the run");
        assert!(active.renew().await, "a claim that was renewed is held");
        futures::future::join_all([active, other, whole].map(ActiveRun::release)).await;
        journal.claim(&claim("a")).await.expect("the claim was released").release().await;
    }

    /// Runs are listed newest first, in pages, and can be found by name. A page can begin after a run or
    /// before a time.
    async fn runs_are_listed_newest_first_in_pages(fixture) {
        let names: Vec<_> = (0..5).map(|number| format!("page {number}/%é{}", fixture.name_suffix())).collect();
        // These runs are newer than those of the other scenarios.
        let time = |number: i64| at() + Duration::from_secs(3_600 + 60 * number.unsigned_abs());
        {
            let journal = open(fixture).await;
            for (number, run) in (0_i64..).zip(&names) {
                let pipeline = format!("paged{}", fixture.name_suffix());
                let begun = RunEvent::RunBegun(RunBegun { pipeline, ..RunBegun::default() });
                journal.append_run(RunRecord { at: time(number), run: run.clone(), event: begun }).await.expect("append");
            }
            let ended = RunEvent::RunEnded { result: RunOutcome::Finished };
            let ended = RunRecord { at: time(10), run: names.first().cloned().unwrap_or_default(), event: ended };
            journal.append_run(ended).await.expect("append");
        }
        let journal = open(fixture).await;
        let (mut after, mut listed) = (Some(RunCursor::before(time(5))), Vec::new());
        while let Some(cursor) = after {
            let page = journal.runs(2, Some(&cursor)).await.expect("runs");
            assert!(page.runs.len() <= 2, "a page has no more than the limit");
            listed.extend(page.runs);
            // The following runs are those of other scenarios.
            after = page.next.filter(|_| listed.len() < names.len());
        }
        listed.truncate(names.len());
        let newest_first: Vec<_> = names.iter().rev().collect();
        assert_eq!(listed.iter().map(|entry| &entry.run).collect::<Vec<_>>(), newest_first);
        assert_eq!(listed.last().and_then(|entry| entry.ended), Some((time(10), RunOutcome::Finished)));
        for entry in &listed {
            assert_eq!(journal.run_entry(&entry.run).await.expect("run_entry").as_ref(), Some(entry));
        }
        assert_eq!(journal.run_entry(&format!("unheard{}", fixture.name_suffix())).await.expect("run_entry"), None);
        let before = journal.runs(1, Some(&RunCursor::before(time(3)))).await.expect("runs");
        assert_eq!(before.runs.first(), listed.get(2), "the page begins with the newest run before that time");
        let first = journal.runs(0, None).await.expect("runs");
        assert_eq!(first.runs.len(), 1, "a limit of 0 counts as 1");
    }

    /// The entry of a resumed run contains the time and inputs of its last begin, and no end.
    async fn the_last_begin_record_of_a_run_applies(fixture) {
        let run = format!("again{}", fixture.name_suffix());
        let begun = |value: &str| RunEvent::RunBegun(RunBegun {
            pipeline: "again".into(),
            parameters: [("p".to_owned(), value.to_owned())].into(),
            ..RunBegun::default()
        });
        let later = |seconds| at() + Duration::from_secs(seconds);
        let events = [
            (0, begun("1")),
            (1, RunEvent::RunEnded { result: RunOutcome::Failed }),
            (2, begun("2")),
        ];
        {
            let journal = open(fixture).await;
            for (seconds, event) in events {
                let record = RunRecord { at: later(seconds), run: run.clone(), event };
                journal.append_run(record).await.expect("append");
            }
            append(&journal, &run, "a", intent("t")).await;
        }
        let entry = open(fixture).await.run_entry(&run).await.expect("run_entry").expect("the run was begun");
        assert_eq!((entry.first_begun_at, entry.begun_at, entry.ended), (at(), later(2), None));
        assert_eq!(entry.begun.parameters.get("p").map(String::as_str), Some("2"));
    }

    /// [`prune`] removes old finished runs. It keeps runs that are recent, active, unfinished, failed or
    /// unknown. A removed run leaves no records, and its name can be used again.
    async fn prune_removes_old_finished_runs_only(fixture) {
        let day = Duration::from_secs(86_400);
        // These runs are older than those of the other scenarios.
        let old = at() - 200 * day;
        let name = |what: &str| format!("{what}{}", fixture.name_suffix());
        let begin = |at| (at, RunEvent::RunBegun(RunBegun { pipeline: name("pruned"), ..RunBegun::default() }));
        let end = |at, result| (at, RunEvent::RunEnded { result });
        let done = Event::Ended(RecordedOutcome { status: Status::Finished, ..ended() });
        let second = Duration::from_secs(1);
        let runs = [
            ("old", done.clone(), vec![begin(old), end(old + second, RunOutcome::Finished)]),
            ("old too", done.clone(), vec![begin(old - second), end(old + second, RunOutcome::Finished)]),
            ("recent", done.clone(), vec![begin(at()), end(at(), RunOutcome::Finished)]),
            ("resumed", done.clone(), vec![begin(old - 2 * second), begin(at()), end(at(), RunOutcome::Finished)]),
            ("active", done.clone(), vec![begin(old - 3 * second), end(old + second, RunOutcome::Finished)]),
            ("died", done.clone(), vec![begin(old - 4 * second)]),
            ("failed", Event::Ended(ended()), vec![begin(old - 5 * second), end(old + second, RunOutcome::Failed)]),
            ("unknown", Event::Unknown { reason: "no listing shows it".into() }, vec![begin(old - 6 * second), end(old, RunOutcome::Unknown)]),
            ("open", Event::Submitted { id: StatementId::new("id") }, vec![begin(old - 7 * second), end(old, RunOutcome::Finished)]),
        ];
        let journal = open(fixture).await;
        for (run, outcome, events) in &runs {
            let run = name(run);
            for (at, event) in events {
                journal.append_run(RunRecord { at: *at, run: run.clone(), event: event.clone() }).await.expect("append");
            }
            for event in [intent("t"), outcome.clone()] {
                let key = StepKey::new(&run, "a");
                let at = events.first().map_or(old, |(at, _)| *at);
                journal.append(Record { at, key, event }).await.expect("append");
            }
        }
        let claim = |run: &str| Claim::new(name(run), name(run), at());
        let _active = journal.claim(&claim("active")).await.expect("claim");
        let ninety = Prune::before(at() - 90 * day);
        let only_ours = |pruned: Pruned| {
            let ours = |run: &String| runs.iter().any(|(name, _, _)| *run == format!("{name}{}", fixture.name_suffix()));
            let removed: Vec<_> = pruned.removed.into_iter().filter(|run| ours(run)).collect();
            let kept: Vec<_> = pruned.kept.into_iter().filter(|kept| ours(&kept.run)).map(|kept| (kept.run, kept.reason)).collect();
            (removed, kept)
        };
        let expected = || (
            vec![name("old"), name("old too")],
            vec![
                (name("resumed"), KeepReason::Recent),
                (name("active"), KeepReason::Active),
                (name("died"), KeepReason::Unfinished),
                (name("failed"), KeepReason::Failed),
                (name("unknown"), KeepReason::Unknown),
                (name("open"), KeepReason::Unknown),
            ],
        );
        let dry = prune(&journal, &ninety.clone().with_dry_run(true)).await.expect("prune");
        assert_eq!(only_ours(dry), expected());
        assert!(journal.run_entry(&name("old")).await.expect("run_entry").is_some(), "a dry run removes nothing");
        let pruned = prune(&journal, &ninety).await.expect("prune");
        assert_eq!(only_ours(pruned), expected());
        drop((_active, journal));
        let journal = open(fixture).await;
        for (run, _, _) in &runs {
            let is_gone = run.starts_with("old");
            assert_eq!(journal.run_entry(&name(run)).await.expect("run_entry").is_none(), is_gone, "{run}");
            assert_eq!(journal.entries(&name(run)).await.expect("entries").is_empty(), is_gone, "{run}");
            assert_eq!(journal.entry(&StepKey::new(name(run), "a")).await.expect("entry").is_none(), is_gone, "{run}");
        }
        let _active = journal.claim(&claim("old").with_exclusive(true)).await.expect("a removed run can be begun anew");
        append(&journal, &name("old"), "a", intent("t2")).await;
        assert_eq!(journal.entries(&name("old")).await.expect("entries").len(), 1);
        let failed = prune(&journal, &ninety.with_failed(true)).await.expect("prune");
        assert_eq!(only_ours(failed).0, [name("active"), name("failed")], "also the run that is no longer active");
    }

    /// A run that got another record since its entry was read is not removed, because the record may be the
    /// intent of a statement without a pipeline, which does not claim its run.
    async fn a_run_with_a_new_record_is_not_removed(fixture) {
        let run = format!("changed{}", fixture.name_suffix());
        let journal = open(fixture).await;
        append(&journal, &run, "a", intent("t-a")).await;
        append(&journal, &run, "a", Event::Ended(ended())).await;
        let active = journal.claim(&Claim::new("", &run, at())).await.expect("claim");
        let entry = async || journal.run_entry(&run).await.expect("run_entry").expect("the run has records");
        let before = entry().await;
        append(&journal, &run, "b", intent("t-b")).await;
        assert_eq!(journal.remove_runs(&[before]).await.expect("remove_runs"), Vec::<String>::new());
        assert_eq!(journal.entries(&run).await.expect("entries").len(), 2);
        let now = entry().await;
        assert_eq!(journal.remove_runs(&[now]).await.expect("remove_runs"), [run.as_str()]);
        active.release().await;
        drop(journal);
        assert_eq!(open(fixture).await.entries(&run).await.expect("entries"), []);
    }
}

async fn open<P: JournalFixture>(fixture: &P) -> P::Journal {
    fixture.open().await.expect("open")
}

async fn append(journal: &impl Journal, run: &str, step: &str, event: Event) {
    journal.append(Record { at: at(), key: StepKey::new(run, step), event }).await.expect("append");
}

fn at() -> Timestamp {
    Timestamp::from_millisecond(1_795_415_400_123).expect("a time")
}

fn intent(token: &str) -> Event {
    Event::Intent {
        token: ClientToken::new(token).expect("a short token"),
        name: format!("name {token}"),
        target: None,
    }
}

fn ended() -> RecordedOutcome {
    RecordedOutcome {
        status: Status::Failed,
        error: Some("ERROR: \"quoted\"\nand on two lines".into()),
        failure: Some(FailureKind::Sql),
        timed_out: true,
        execution_time: Some(Duration::from_millis(1_500)),
        rows: Some(7),
        has_result_set: true,
    }
}
