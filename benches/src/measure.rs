//! Time, processor time and memory of this process and its children.

use std::{
    fs,
    io::{BufRead, BufReader, Lines, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// Returns the processor time of this process on all cores, user and system time together, in steps of 10 ms.
pub fn cpu_time() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name of the program, in parentheses, may contain any character.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks: u64 =
        fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

/// Returns the peak resident memory of this process.
pub fn peak_bytes() -> u64 {
    status_bytes("VmHWM:")
}

/// Returns the current resident memory of this process.
pub fn resident_bytes() -> u64 {
    status_bytes("VmRSS:")
}

fn status_bytes(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// Returns the median; for an even number of values, the upper of the two in the middle.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Runs a program that prints one JSON object per line; other lines of its output are skipped.
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

/// A process that receives work line by line, and responds to each line with a line of JSON.
#[derive(Debug)]
pub struct Worker {
    child: Child,
    work: Option<ChildStdin>,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Worker {
    /// Starts the process.
    pub fn start(command: &mut Command) -> Result<Self> {
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.with_context(|| format!("{command:?}"))?;
        let work = child.stdin.take();
        let answers = child.stdout.take().context("a child has an output")?;
        Ok(Self { child, work, answers: BufReader::new(answers).lines() })
    }

    /// Sends a line of work, and waits for the response.
    pub fn ask(&mut self, line: &str) -> Result<Value> {
        writeln!(self.work.as_mut().context("a child has an input")?, "{line}")?;
        let answer = self.answers.next().context("the process ended before its work was done")??;
        serde_json::from_str(&answer).context(answer)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // The process ends when its input is closed.
        self.work = None;
        let _ = self.child.wait();
    }
}

/// Returns a number from a JSON object.
pub fn number(object: &Value, name: &str) -> Result<f64> {
    object[name].as_f64().with_context(|| format!("{object} has no number {name}"))
}
