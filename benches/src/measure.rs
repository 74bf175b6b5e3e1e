//! Time, processor time and memory of processes, this one and children.

use std::{
    fs,
    io::{BufRead, BufReader, Lines, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// The processor time that this process has used, on all cores, user and system. Steps of 10 ms.
pub fn cpu_time() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name of the program, in parentheses, may hold anything.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks: u64 =
        fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

/// The most memory that this process has had at a time.
pub fn peak_bytes() -> u64 {
    status_bytes("VmHWM:")
}

/// The memory that this process has now.
pub fn resident_bytes() -> u64 {
    status_bytes("VmRSS:")
}

fn status_bytes(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// The middle one; of an even number the upper of the two.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Runs a program that prints one JSON object a line; other lines of it are left out.
pub fn json_lines(command: &mut Command) -> Result<Vec<Value>> {
    let shown = format!("{command:?}");
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let output = child.and_then(std::process::Child::wait_with_output).with_context(|| shown.clone())?;
    let said = String::from_utf8_lossy(&output.stderr);
    let last: Vec<&str> = said.lines().rev().take(15).collect();
    let last: Vec<&str> = last.into_iter().rev().collect();
    ensure!(output.status.success(), "{shown}: {}\n{}", output.status, last.join("\n"));
    let lines = String::from_utf8_lossy(&output.stdout);
    Ok(lines.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

/// A process that is handed one line of work after the other, and answers each with a JSON object in a line.
#[derive(Debug)]
pub struct Worker {
    child: Child,
    work: Option<ChildStdin>,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Worker {
    /// Starts it.
    pub fn start(command: &mut Command) -> Result<Self> {
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.with_context(|| format!("{command:?}"))?;
        let work = child.stdin.take();
        let answers = child.stdout.take().context("a child has an output")?;
        Ok(Self { child, work, answers: BufReader::new(answers).lines() })
    }

    /// Hands it a line of work, and waits for what it says.
    pub fn ask(&mut self, line: &str) -> Result<Value> {
        writeln!(self.work.as_mut().context("a child has an input")?, "{line}")?;
        let answer = self.answers.next().context("the process ended before its work was done")??;
        serde_json::from_str(&answer).context(answer)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // The end of its input ends it.
        self.work = None;
        let _ = self.child.wait();
    }
}

/// A number of a JSON object.
pub fn number(object: &Value, name: &str) -> Result<f64> {
    object[name].as_f64().with_context(|| format!("{object} has no number {name}"))
}
