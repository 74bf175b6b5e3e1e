//! Tests of `cancel`, while the process of the run is alive and after it has died.
#![cfg(unix)]

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::{
    proxy::Treatment,
    support::{PIPELINE, Stage},
};

#[test]
fn cancels_while_another_process_runs_the_run() {
    let stage = Stage::new(PIPELINE, "[[statement]]\ncontains = 'two'\ntakes = '10m'");
    let mut going = stage.start(&["run", "load.toml", "--run-id", "a", "-p", "cycle=7"]);
    going.until("two  submitted");
    let cancelled = stage.call(&["cancel", "load.toml", "--run-id", "a"]);
    assert_eq!((cancelled.code, cancelled.out.as_str()), (Some(0), "a/two/1  cancelled\n"), "{cancelled:?}");
    assert!(cancelled.err.contains("another process uses the journal"), "{}", cancelled.err);
    let done = going.done();
    assert_eq!(done.code, Some(1));
    assert!(done.out.contains("two    aborted"), "{}", done.out);
    let none = stage.call(&["cancel", "load.toml", "--run-id", "a"]);
    assert_eq!((none.code, none.out.as_str()), (Some(0), "a: no statements in flight\n"));
}

#[test]
fn records_the_outcome_of_each_statement_of_a_dead_run() {
    let stage = Stage::new(PIPELINE, "[[statement]]\ncontains = 'two'\ntakes = '10m'");
    let mut going = stage.start(&["run", "load.toml", "--run-id", "a", "-p", "cycle=7"]);
    going.until("two  submitted").signal("KILL");
    going.done();
    let cancelled = stage.call(&["cancel", "load.toml", "--json"]).objects().remove(0);
    assert_eq!((&cancelled["step"], &cancelled["fate"]), (&"two".into(), &"cancelled".into()));
    assert_eq!(cancelled["recorded"], true);
    let status = stage.call(&["status", "load.toml", "--run-id", "a"]);
    assert!(status.out.contains("two/1  aborted"), "{}", status.out);
}

#[test]
fn settles_nothing_while_another_process_runs_the_run() {
    let stage = Stage::new(PIPELINE, "[[statement]]\ncontains = 'two'\ntakes = '2s'");
    let mut going = stage.start(&["run", "load.toml", "--run-id", "a", "-p", "cycle=7"]);
    going.until("two  submitted");
    let settle = ["settle", "load.toml", "two", "--run-id", "a", "--as", "finished", "--because", "I looked"];
    let refused = stage.call(&settle);
    assert_eq!(refused.code, Some(4), "{refused:?}");
    assert!(refused.err.contains("when that process has ended"), "{}", refused.err);
    assert!(refused.err.contains("active_run: a"), "{}", refused.err);
    assert_eq!(going.done().code, Some(0));
}

/// Two steps without dependencies.
const TWO: &str = r#"
name = "two"
[[steps]]
name = "one"
call = "one()"
[[steps]]
name = "two"
call = "two()"
"#;

const SLOW: &str = "[[statement]]\ncontains = 'CALL'\ntakes = '10m'";

/// Regression: each cancel waited for the rollback of the statement before it. The service of this test
/// rolls nothing back until it has received both cancels.
#[test]
fn all_cancels_are_sent_before_the_first_rollback_is_over() {
    let mut stage = Stage::new(TWO, SLOW);
    let received = AtomicUsize::new(0);
    stage.treat(move |operation, _| match operation {
        "CancelStatement" if received.fetch_add(1, Ordering::SeqCst) == 0 => {
            Treatment::Reply(200, r#"{"Status": true}"#)
        }
        _ => Treatment::Forward,
    });
    let mut going = stage.start(&["run", "load.toml", "--run-id", "a"]);
    going.until("  submitted").until("  submitted").signal("KILL");
    going.done();
    // The first statement never ends. The second one is cancelled while the command waits for the first.
    let cancelled = stage.call(&["cancel", "load.toml", "--cancel-grace", "2s"]);
    let mut fates: Vec<_> = cancelled.out.lines().map(|line| line.split_once("  ").unwrap()).collect();
    assert_eq!(fates[0].1, "cancelled", "the second statement is reported first: {cancelled:?}");
    fates.sort_by_key(|(_, fate)| fate.to_owned());
    assert_eq!(fates[1].1, "was cancelled, but has not ended yet");
    assert_eq!(cancelled.code, Some(1), "{cancelled:?}");
}

/// Regression: after one throttled listing, the command ended without a cancel of the statements with an id.
#[test]
fn a_throttled_listing_is_retried_and_prevents_no_other_cancel() {
    let mut stage = Stage::new(TWO, SLOW);
    let listings = AtomicUsize::new(0);
    stage.treat(move |operation, body| match operation {
        "ExecuteStatement" if body.contains("one()") => Treatment::LoseReply,
        "ListStatements" if listings.fetch_add(1, Ordering::SeqCst) == 0 => {
            Treatment::Reply(400, r#"{"__type": "ThrottlingException", "message": "Rate exceeded"}"#)
        }
        _ => Treatment::Forward,
    });
    let mut going = stage.start(&["run", "load.toml", "--run-id", "a"]);
    going.until("two  submitted").signal("KILL");
    going.done();
    let cancelled = stage.call(&["cancel", "load.toml", "--json"]);
    assert_eq!(cancelled.code, Some(0), "{cancelled:?}");
    let mut fates = cancelled.objects();
    fates.sort_by_key(|fate| fate["step"].to_string());
    for (fate, step) in fates.iter().zip(["one", "two"]) {
        assert_eq!((&fate["step"], &fate["fate"]), (&step.into(), &"cancelled".into()));
        assert!(fate["statement_id"].is_string() && fate["recorded"] == true, "{fate}");
    }
    assert_eq!(fates.len(), 2);
}

#[test]
fn a_listing_that_fails_names_the_statement_that_was_not_cancelled() {
    let mut stage = Stage::new(TWO, SLOW);
    stage.treat(|operation, body| match operation {
        "ExecuteStatement" if body.contains("one()") => Treatment::LoseReply,
        "ListStatements" => {
            Treatment::Reply(400, r#"{"__type": "AccessDeniedException", "message": "not authorized"}"#)
        }
        _ => Treatment::Forward,
    });
    let mut going = stage.start(&["run", "load.toml", "--run-id", "a"]);
    going.until("two  submitted").signal("KILL");
    going.done();
    let cancelled = stage.call(&["cancel", "load.toml"]);
    assert_eq!(cancelled.code, Some(1), "{cancelled:?}");
    assert!(cancelled.out.contains("a/two/1  cancelled\n"), "{}", cancelled.out);
    assert!(cancelled.out.contains("a/one/1  could not be cancelled: access denied"), "{}", cancelled.out);
}

/// Regression: a command for another service searched there for a statement by its name.
#[test]
fn nothing_is_cancelled_on_another_service() {
    let mut stage = Stage::new(PIPELINE, "[[statement]]\ncontains = 'two'\ntakes = '10m'");
    let mut going = stage.start(&["run", "load.toml", "--run-id", "a", "-p", "cycle=7"]);
    going.until("two  submitted").signal("KILL");
    going.done();
    stage.restart("");
    let refused = stage.call(&["cancel", "load.toml", "--run-id", "a"]);
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.err.contains("--service-name"), "{}", refused.err);
}
