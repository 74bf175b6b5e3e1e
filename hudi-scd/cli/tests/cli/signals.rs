//! A signal ends a write in an orderly way.

use std::{
    os::unix::fs::FileTypeExt,
    process::{Child, Command, Stdio},
    time::Duration,
};

use rstest::rstest;

use crate::{Place, Run};

/// Sends a signal to a process.
pub(crate) fn send(signal: &str, process: &Child) {
    let sent =
        Command::new("kill").args([&format!("-{signal}"), &process.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

/// Starts a write that holds the lock of its table while it reads a pipe that never returns data in place of
/// a base file.
fn blocked(place: &Place) -> Child {
    place.table("t", 1);
    let files = std::fs::read_dir(place.path("t")).unwrap().map(|entry| entry.unwrap().path());
    let base = files.into_iter().find(|path| path.extension().is_some_and(|end| end == "parquet")).unwrap();
    std::fs::rename(&base, place.path("aside")).unwrap();
    assert!(Command::new("mkfifo").arg(&base).status().unwrap().success());
    place.write("rows.jsonl", r#"{"id":1,"v":"x","at":9}"#);
    let words = ["upsert", "t", "--input", "rows.jsonl"];
    let mut writer = place.command(&words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let lock = std::fs::File::open(place.path("t/.hoodie/.locks/table_lock")).unwrap();
    // The operating system knows which process holds the lock.
    while lock.try_lock().is_ok() {
        lock.unlock().unwrap();
        assert!(writer.try_wait().unwrap().is_none(), "the write ended");
        std::thread::yield_now();
    }
    writer
}

#[rstest]
#[timeout(Duration::from_secs(60))]
#[case("INT", 130)]
#[case("TERM", 143)]
fn a_write_ends_by_a_signal_and_the_next_one_goes_on(#[case] signal: &str, #[case] code: i32) {
    let place = Place::new();
    let writer = blocked(&place);
    send(signal, &writer);
    let run = Run::of(writer.wait_with_output().unwrap());
    assert_eq!((run.code, run.out.as_str()), (code, ""), "{}", run.err);
    assert!(run.err.contains("interrupted"), "{}", run.err);

    let files = std::fs::read_dir(place.path("t")).unwrap().map(|entry| entry.unwrap());
    let pipe = files.into_iter().find(|file| file.file_type().unwrap().is_fifo()).unwrap().path();
    std::fs::rename(place.path("aside"), pipe).unwrap();
    assert_eq!(place.lines("read t")[0]["v"], "v1");
    place.ok("upsert t --input rows.jsonl");
    assert_eq!(place.lines("read t")[0]["v"], "x");
    place.ok("validate t");
}
