//! Measures time, processor time and memory of this process and its children.

use std::{
    fs,
    io::{BufRead, BufReader, Lines, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// Returns the user and system time of this process on all cores, in steps of 10 ms.
pub fn cpu_time() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The program's name, in parentheses, may contain spaces and parentheses.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks: u64 =
        fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

/// Returns the peak resident memory of this process.
pub fn peak_bytes() -> u64 {
    status_bytes("self", "VmHWM:")
}

/// Returns the peak resident memory of another process, or 0 if there is no such process.
pub fn peak_bytes_of(process: u32) -> u64 {
    status_bytes(&process.to_string(), "VmHWM:")
}

/// Returns the current resident memory of this process.
pub fn resident_bytes() -> u64 {
    status_bytes("self", "VmRSS:")
}

fn status_bytes(process: &str, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// Returns the median. For an even number of values, returns the higher of the two in the middle.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Runs a program that prints one JSON object per line. Skips other lines of its output.
pub fn json_lines(command: &mut Command) -> Result<Vec<Value>> {
    let shown = format!("{command:?}");
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let output = child.and_then(std::process::Child::wait_with_output).with_context(|| shown.clone())?;
    let log = String::from_utf8_lossy(&output.stderr);
    let last: Vec<&str> = log.lines().rev().take(15).collect();
    let last: Vec<&str> = last.into_iter().rev().collect();
    ensure!(output.status.success(), "{shown}: {}\n{}", output.status, last.join("\n"));
    let lines = String::from_utf8_lossy(&output.stdout);
    Ok(lines.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

/// A process that reads one line of work at a time and responds to each with a line of JSON.
#[derive(Debug)]
pub struct Worker {
    child: Child,
    work: Option<ChildStdin>,
    responses: Lines<BufReader<ChildStdout>>,
}

impl Worker {
    /// Starts the process.
    pub fn start(command: &mut Command) -> Result<Self> {
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.with_context(|| format!("{command:?}"))?;
        let work = child.stdin.take();
        let responses = child.stdout.take().context("the process has no standard output")?;
        Ok(Self { child, work, responses: BufReader::new(responses).lines() })
    }

    /// Sends a line of work and waits for the response.
    pub fn request(&mut self, line: &str) -> Result<Value> {
        writeln!(self.work.as_mut().context("the process has no standard input")?, "{line}")?;
        let response = self.responses.next().context("the process ended before its work was done")??;
        serde_json::from_str(&response).context(response)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Closing its standard input makes the process end.
        self.work = None;
        let _ = self.child.wait();
    }
}

/// Returns a number from a JSON object.
pub fn number(object: &Value, name: &str) -> Result<f64> {
    object[name].as_f64().with_context(|| format!("{object} has no number {name}"))
}
