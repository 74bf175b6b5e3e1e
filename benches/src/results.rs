//! Writes `benches/RESULTS.md`, which has one section per benchmark. Each benchmark replaces its section.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

/// Results of one run of a benchmark, which become its section of the page.
#[derive(Clone, Debug)]
pub struct Section {
    name: String,
    question: String,
    input: String,
    body: String,
}

impl Section {
    /// Creates the section of the benchmark `name`, with its question and its input.
    pub fn new(name: &str, question: &str, input: &str) -> Self {
        Self { name: name.into(), question: question.into(), input: input.into(), body: String::new() }
    }

    /// Adds a table with a header and rows. The first column contains text, and the others contain figures.
    #[must_use]
    pub fn with_table<const N: usize>(
        mut self,
        header: [&str; N],
        rows: impl IntoIterator<Item = [String; N]>,
    ) -> Self {
        let mut table = format!("| {} |\n|---|{}\n", header.join(" | "), "---:|".repeat(N.saturating_sub(1)));
        for row in rows {
            let _ = writeln!(table, "| {} |", row.join(" | "));
        }
        self.add(&table);
        self
    }

    /// Adds a paragraph, for example to explain a figure or its limit.
    #[must_use]
    pub fn with_note(mut self, note: &str) -> Self {
        self.add(note);
        self
    }

    fn add(&mut self, block: &str) {
        let _ = write!(self.body, "\n{}\n", block.trim_end());
    }

    /// Prints the section. After a full run, also replaces the section in `benches/RESULTS.md`.
    pub fn publish(&self, full: bool) -> Result<()> {
        println!("\n{}", self.body.trim());
        if full {
            let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("RESULTS.md");
            self.write(&page)?;
            println!("\nwritten to {}", page.display());
        }
        Ok(())
    }

    fn write(&self, page: &PathBuf) -> Result<()> {
        let old = match fs::read_to_string(page) {
            Ok(text) => text,
            Err(missing) if missing.kind() == std::io::ErrorKind::NotFound => HEAD.into(),
            Err(other) => return Err(other).with_context(|| format!("reading {}", page.display())),
        };
        let section =
            format!("## {}\n\n{}\n\n{}; {}\n{}", self.name, self.question, self.input, machine(), self.body);
        fs::write(page, replaced(&old, &self.name, &section))
            .with_context(|| format!("writing {}", page.display()))
    }
}

const HEAD: &str = "# Results\n\nEach section is written by the program of the same name (see README.md), \
and compares our figures with a peer or a limit measured in the same run.\n";

/// Returns the page with this section in place of its predecessor. A new section is added at the end.
fn replaced(page: &str, name: &str, section: &str) -> String {
    let title = format!("## {name}");
    let (mut kept, mut placed, mut inside) = (String::new(), false, false);
    for line in page.lines() {
        if line.starts_with("## ") {
            inside = line == title;
            if inside {
                kept.push_str(section.trim_end());
                kept.push_str("\n\n");
                placed = true;
            }
        }
        if !inside {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    if !placed {
        kept.push('\n');
        kept.push_str(section);
    }
    kept.trim_end().to_owned() + "\n"
}

/// Describes the machine, the build profile and the date.
#[expect(clippy::disallowed_methods, reason = "the results page contains the date of the measurement")]
fn machine() -> String {
    let read = |file: &str, key: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let value = text.lines().find_map(|line| {
            line.strip_prefix(key)?.split_once(':').map(|(_, value)| value.trim().to_owned())
        });
        value.unwrap_or_else(|| "unknown".into())
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let memory = read("/proc/meminfo", "MemTotal")
        .trim_end_matches("kB")
        .trim()
        .parse::<f64>()
        .map_or_else(|_| "unknown".into(), |kib| format!("{:.0} GiB", kib / 1_048_576.0));
    let profile = if cfg!(debug_assertions) { "dev" } else { "release" };
    format!(
        "{} ({cores} cores), {memory}, {profile} profile, {}",
        read("/proc/cpuinfo", "model name"),
        jiff::Zoned::now().date()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_replaces_the_previous_one_and_keeps_the_others() {
        let page = replaced(HEAD, "one", "## one\n\nfirst\n");
        let page = replaced(&page, "two", "## two\n\nother\n");
        let page = replaced(&page, "one", "## one\n\nsecond\n");
        assert_eq!(page, format!("{HEAD}\n## one\n\nsecond\n\n## two\n\nother\n"));
    }
}
