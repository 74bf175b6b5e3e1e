//! The program `hudi-scd`, run as a process.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[cfg(feature = "glue")]
mod catalog;
#[path = "../../../tests/common/mod.rs"]
mod common;
mod failures;
mod field;
mod formats;
mod golden;
mod history;
mod s3;
#[cfg(unix)]
mod signals;
mod spark;
mod upkeep;

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;
use tempfile::TempDir;

/// A working folder for the program.
struct Place {
    folder: TempDir,
}

/// The result of a run of the program.
struct Run {
    code: i32,
    out: String,
    err: String,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, content: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    /// Runs the program with these arguments, split at spaces.
    fn run(&self, words: &str) -> Run {
        self.run_words(&words.split_whitespace().collect::<Vec<_>>())
    }

    fn run_words(&self, words: &[&str]) -> Run {
        let output = self.command(words).output().unwrap();
        Run::of(output)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hudi-scd"));
        command.args(words).current_dir(self.folder.path());
        command
    }

    /// Runs the program, which must succeed, and returns its output.
    fn ok(&self, words: &str) -> String {
        let run = self.run(words);
        assert_eq!(run.code, 0, "{words}: {}{}", run.out, run.err);
        run.out
    }

    /// Returns the one JSON object that a successful run prints.
    fn json(&self, words: &str) -> Value {
        let lines = self.lines(&format!("{words} --json"));
        assert_eq!(lines.len(), 1, "{words}: {lines:?}");
        lines.into_iter().next().unwrap()
    }

    /// Returns the JSON objects that a successful run prints.
    fn lines(&self, words: &str) -> Vec<Value> {
        self.ok(words).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Returns the instants of a table's completed and pending commits, oldest first.
    fn commits(&self, table: &str) -> Vec<String> {
        let timeline = self.lines(&format!("timeline {table} --json"));
        let commits = timeline.iter().filter(|line| line["action"] == "commit");
        commits.map(|line| line["instant"].as_str().unwrap().to_owned()).collect()
    }

    /// Creates a table of type 1 with a few commits: `id`, `v`, `at`.
    fn table(&self, name: &str, commits: i32) {
        self.write("columns.txt", "id bigint, v string, at bigint");
        self.ok(&format!(
            "create {name} --name t --record-key id --ordering-field at --schema columns.txt --retain-commits 2"
        ));
        for at in 1..=commits {
            self.write("rows.jsonl", &format!(r#"{{"id":1,"v":"v{at}","at":{at}}}"#));
            assert_eq!(self.json(&format!("upsert {name} --input rows.jsonl"))["rows"], 1);
        }
    }
}

impl Run {
    fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
    }
}

/// Sorts lines by row, independently of the order of object members.
fn canonical(lines: &str) -> Vec<String> {
    let mut rows: Vec<String> =
        lines.lines().map(|line| common::canonical(&serde_json::from_str(line).unwrap())).collect();
    rows.sort();
    rows
}

fn copy(from: &Path, into: &Path) {
    std::fs::create_dir_all(into).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = into.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}
