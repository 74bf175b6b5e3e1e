//! The program `redshift-data-emulator` as a separate process.

use std::{
    io::{BufRead, BufReader},
    process::{Child, ChildStdout, Command, Stdio},
};

/// Returns a command for the program with these arguments.
pub(crate) fn emulator(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_redshift-data-emulator"));
    command.args(arguments);
    command
}

/// A listening emulator. Dropping it kills the process.
pub(crate) struct Emulator {
    pub(crate) process: Child,
    /// The rest of its output.
    #[allow(dead_code, reason = "not every test that includes this file reads it")]
    pub(crate) out: BufReader<ChildStdout>,
    pub(crate) url: String,
}

impl Emulator {
    /// Starts the emulator, and returns once it listens.
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
