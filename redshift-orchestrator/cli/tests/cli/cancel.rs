//! Tests of `cancel`, while the process of the run is alive and after it has died.
#![cfg(unix)]

use crate::support::{PIPELINE, Stage};

#[test]
fn cancels_beside_the_process_that_is_at_the_run() {
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
fn says_of_a_dead_run_how_each_statement_ended_and_writes_it_down() {
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
fn settles_nothing_beside_the_process_that_is_at_the_run() {
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
