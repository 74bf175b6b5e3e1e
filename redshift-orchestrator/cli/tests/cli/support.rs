//! Runs the program in a temporary directory, with an emulator.

use std::{
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use serde_json::Value;

use crate::{
    emulator::Emulator,
    proxy::{Treatment, proxy},
};

/// A directory with a pipeline file, and an emulator that runs its statements.
pub(crate) struct Stage {
    directory: tempfile::TempDir,
    emulator: Option<Emulator>,
    /// URL of a proxy, which the program uses instead of the emulator.
    proxy: Option<String>,
}

/// Three steps, one after the other. A script can give `two` a duration.
pub(crate) const PIPELINE: &str = r#"
name = "row"
[parameters.cycle]
[[steps]]
name = "one"
sql = "UPDATE one SET classified = :cycle"
parameters = { cycle = "${cycle}" }
tags = ["first"]
[[steps]]
name = "two"
sql = "UPDATE two SET classified = 1"
after = ["one"]
[[steps]]
name = "three"
sql = "UPDATE three SET classified = 1"
after = ["two"]
"#;

/// Exit code and output of a process.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Done {
    /// Parses standard output, which has one JSON object per line.
    pub(crate) fn objects(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// A running process.
pub(crate) struct Going {
    child: Child,
    err: BufReader<std::process::ChildStderr>,
    read: String,
}

impl Stage {
    /// Creates a pipeline file, and starts an emulator with this script.
    pub(crate) fn new(pipeline: &str, script: &str) -> Self {
        let mut stage = Self { directory: tempfile::tempdir().unwrap(), emulator: None, proxy: None };
        stage.write("load.toml", pipeline);
        stage.restart(script);
        stage
    }

    /// Replaces the emulator by a new one, which has no records.
    pub(crate) fn restart(&mut self, script: &str) {
        self.emulator = None;
        self.emulator = Some(Emulator::scripted(script));
    }

    pub(crate) fn emulator_url(&self) -> String {
        self.emulator.as_ref().expect("the stage has an emulator").url.clone()
    }

    /// Puts a proxy before the emulator.
    pub(crate) fn treat(&mut self, rule: impl Fn(&str, &str) -> Treatment + Send + Sync + 'static) {
        self.proxy = Some(proxy(&self.emulator_url(), rule));
    }

    /// Creates a pipeline file, and starts an emulator that uses a PostgreSQL server.
    pub(crate) fn on_postgres(pipeline: &str, url: &str) -> Self {
        let mut stage = Self::without_emulator(pipeline);
        stage.emulator = Some(Emulator::postgres(url));
        stage
    }

    pub(crate) fn without_emulator(pipeline: &str) -> Self {
        let stage = Self { directory: tempfile::tempdir().unwrap(), emulator: None, proxy: None };
        stage.write("load.toml", pipeline);
        stage
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_redshift-orchestrator"));
        command.args(arguments).current_dir(self.directory.path()).env_clear();
        command.env("AWS_ACCESS_KEY_ID", "any").env("AWS_SECRET_ACCESS_KEY", "any").env("USER", "ada");
        if let Some(emulator) = &self.emulator
            && matches!(arguments[0], "run" | "resume" | "cancel")
            && !arguments.contains(&"--postgres")
        {
            command.args(["--endpoint-url", self.proxy.as_ref().unwrap_or(&emulator.url)]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs the program and waits for it.
    pub(crate) fn call(&self, arguments: &[&str]) -> Done {
        Self::done(self.command(arguments))
    }

    /// Runs the program without an AWS configuration.
    pub(crate) fn call_without_credentials(&self, arguments: &[&str]) -> Done {
        let mut command = self.command(arguments);
        command.env_clear().env("AWS_EC2_METADATA_DISABLED", "true").env("HOME", self.directory.path());
        Self::done(command)
    }

    /// Runs the program with closed standard output and standard error. Returns its exit code.
    #[cfg(unix)]
    pub(crate) fn call_unheard(&self, arguments: &[&str]) -> Option<i32> {
        let mut child = self.command(arguments).spawn().unwrap();
        drop((child.stdout.take(), child.stderr.take()));
        child.wait().unwrap().code()
    }

    fn done(mut command: Command) -> Done {
        let output = command.output().unwrap();
        let done = Done {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        };
        assert!(!done.err.contains("panicked"), "{done:?}");
        done
    }

    /// Starts the program without waiting for it.
    pub(crate) fn start(&self, arguments: &[&str]) -> Going {
        let mut child = self.command(arguments).spawn().unwrap();
        let err = BufReader::new(child.stderr.take().unwrap());
        Going { child, err, read: String::new() }
    }
}

impl Going {
    /// Waits for a line on standard error that contains this text.
    pub(crate) fn until(&mut self, part: &str) -> &mut Self {
        loop {
            let mut line = String::new();
            assert!(
                self.err.read_line(&mut line).unwrap() > 0,
                "standard error ended without `{part}`:\n{}",
                self.read
            );
            self.read += &line;
            if line.contains(part) {
                return self;
            }
        }
    }

    /// Sends the signal with this name to the process.
    pub(crate) fn signal(&mut self, name: &str) -> &mut Self {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(sent.unwrap().success());
        self
    }

    /// Waits until the process ends.
    pub(crate) fn done(mut self) -> Done {
        let mut out = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        self.err.read_to_string(&mut self.read).unwrap();
        Done { code: self.child.wait().unwrap().code(), out, err: self.read }
    }
}

/// Returns the path of a file in the repository.
pub(crate) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}
