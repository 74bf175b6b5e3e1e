//! Runs the program `redshift-data-emulator` as a separate process.

use std::{
    io::{BufRead, BufReader},
    process::{Child, ChildStdout, Command, Stdio},
};

/// Returns a command that runs the program with these arguments.
pub(crate) fn emulator(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_redshift-data-emulator"));
    command.args(arguments);
    command
}

/// A running emulator. Dropping it kills the process.
pub(crate) struct Emulator {
    pub(crate) process: Child,
    /// Standard output after the first line.
    #[allow(dead_code, reason = "some of the tests that include this file do not read it")]
    pub(crate) out: BufReader<ChildStdout>,
    pub(crate) url: String,
}

impl Emulator {
    /// Starts the emulator and waits until it listens.
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        let url = line.trim_end().strip_prefix("listening on ").expect("the emulator listens").to_owned();
        Self { process, out, url }
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
