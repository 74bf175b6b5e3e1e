//! Tests of Ctrl-C and SIGTERM.
#![cfg(unix)]

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::{
    proxy::Treatment,
    support::{PIPELINE, Stage},
};

#[test]
fn the_first_interrupt_waits_for_active_statements_and_starts_no_others() {
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
fn an_interrupt_can_cancel_active_statements() {
    let stage = Stage::new(PIPELINE, "[[statement]]\ncontains = 'two'\ntakes = '10m'");
    let mut going =
        stage.start(&["run", "load.toml", "--run-id", "a", "-p", "cycle=7", "--on-interrupt", "cancel"]);
    going.until("two  submitted").signal("TERM");
    let done = going.done();
    assert_eq!(done.code, Some(130), "{done:?}");
    assert!(done.out.contains("1 aborted, 1 finished, 1 skipped"), "{}", done.out);
}

/// Regression: a response of `false`, which the service can return while it starts a statement, counted as
/// done, and the run waited for the whole statement.
#[test]
fn a_rejected_cancel_is_repeated_after_an_interrupt() {
    let mut stage = Stage::new(PIPELINE, "[[statement]]\ncontains = 'two'\ntakes = '10m'");
    let cancels = AtomicUsize::new(0);
    stage.treat(move |operation, _| match operation {
        "CancelStatement" if cancels.fetch_add(1, Ordering::SeqCst) < 2 => {
            Treatment::Reply(200, r#"{"Status": false}"#)
        }
        _ => Treatment::Forward,
    });
    let mut going =
        stage.start(&["run", "load.toml", "--run-id", "a", "-p", "cycle=7", "--on-interrupt", "cancel"]);
    going.until("two  submitted").signal("TERM");
    let done = going.done();
    assert_eq!(done.code, Some(130), "{done:?}");
    assert!(done.out.contains("1 aborted, 1 finished, 1 skipped"), "{}", done.out);
}

/// Regression: after an interrupt, the grace time of a cancel was 15 minutes regardless of the option, and
/// the program then waited for the statement.
#[test]
fn an_interrupt_waits_for_a_rollback_only_during_the_grace_time() {
    let mut stage = Stage::new(PIPELINE, "[[statement]]\ncontains = 'two'\ntakes = '10m'");
    // The service accepts the cancel, and the rollback does not end.
    stage.treat(|operation, _| match operation {
        "CancelStatement" => Treatment::Reply(200, r#"{"Status": true}"#),
        _ => Treatment::Forward,
    });
    let run = ["run", "load.toml", "--run-id", "a", "-p", "cycle=7", "--on-interrupt", "cancel"];
    let mut going = stage.start(&[&run[..], &["--cancel-grace", "1s"]].concat());
    going.until("two  submitted").signal("TERM").until("was cancelled, but has not ended yet");
    let done = going.done();
    assert_eq!(done.code, Some(130), "{done:?}");
    let status = stage.call(&["status", "load.toml", "--run-id", "a"]);
    assert!(status.out.contains("two/1  submitted"), "{}", status.out);
}

#[test]
fn the_second_interrupt_ends_the_process_and_leaves_an_intact_journal() {
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
fn an_interrupt_can_leave_statements_running() {
    let stage = Stage::new(PIPELINE, "[[statement]]\ncontains = 'two'\ntakes = '1s'");
    let mut going =
        stage.start(&["run", "load.toml", "--run-id", "a", "-p", "cycle=7", "--on-interrupt", "leave"]);
    going.until("two  submitted").signal("INT");
    assert_eq!(going.done().code, Some(130));
    assert_eq!(stage.call(&["resume", "load.toml"]).code, Some(0));
}
