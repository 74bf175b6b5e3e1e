//! Tests of Ctrl-C and SIGTERM.
#![cfg(unix)]

use crate::support::{PIPELINE, Stage};

#[test]
fn the_first_interrupt_waits_for_what_runs_and_begins_nothing_further() {
    let stage = Stage::new(PIPELINE, "[[statement]]\ncontains = 'two'\ntakes = '1s'");
    let mut going = stage.start(&["run", "load.toml", "--run-id", "a", "-p", "cycle=7"]);
    going.until("two  submitted").signal("INT").until("interrupted");
    let done = going.done();
    assert_eq!(done.code, Some(130), "{done:?}");
    assert!(done.out.contains("2 finished, 1 not started"), "{}", done.out);
    let status = stage.call(&["status", "load.toml"]);
    assert!(status.out.contains("a  row  stopped"), "{}", status.out);
    assert_eq!(stage.call(&["resume", "load.toml"]).code, Some(0));
}

#[test]
fn an_interrupt_may_cancel_what_runs() {
    let stage = Stage::new(PIPELINE, "[[statement]]\ncontains = 'two'\ntakes = '10m'");
    let mut going =
        stage.start(&["run", "load.toml", "--run-id", "a", "-p", "cycle=7", "--on-interrupt", "cancel"]);
    going.until("two  submitted").signal("TERM");
    let done = going.done();
    assert_eq!(done.code, Some(130), "{done:?}");
    assert!(done.out.contains("1 aborted, 1 finished, 1 skipped"), "{}", done.out);
}

#[test]
fn the_second_interrupt_ends_the_process_and_leaves_a_whole_journal() {
    let stage = Stage::new(PIPELINE, "[[statement]]\ncontains = 'two'\ntakes = '2s'");
    let mut going = stage.start(&["run", "load.toml", "--run-id", "a", "-p", "cycle=7"]);
    going
        .until("two  submitted")
        .signal("INT")
        .until("interrupted:")
        .signal("INT")
        .until("interrupted again");
    assert_eq!(going.done().code, Some(130));
    let done = stage.call(&["resume", "load.toml", "--json"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    let submitted = done.objects().into_iter().filter(|object| object["event"] == "submitted").count();
    assert_eq!(submitted, 1, "only `three` had not been submitted");
}

#[test]
fn an_interrupt_may_leave_what_runs_to_the_service() {
    let stage = Stage::new(PIPELINE, "[[statement]]\ncontains = 'two'\ntakes = '1s'");
    let mut going =
        stage.start(&["run", "load.toml", "--run-id", "a", "-p", "cycle=7", "--on-interrupt", "leave"]);
    going.until("two  submitted").signal("INT");
    assert_eq!(going.done().code, Some(130));
    assert_eq!(stage.call(&["resume", "load.toml"]).code, Some(0));
}
