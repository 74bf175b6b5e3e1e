//! Terminal output: progress bars during the run, and a summary at the end.

use std::{
    io::IsTerminal,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use comfy_table::{Table, presets::UTF8_BORDERS_ONLY};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use redshift_orchestrator::{Observer, ProgressEvent, StepKey};

use crate::{
    changes::{Changes, Cycle},
    lake::VERSIONS_ALLOWED,
    record::{CycleRecord, Totals, bytes, grouped, seconds},
};

/// Progress bars. Without a terminal, prints one line per cycle instead.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    cycles: ProgressBar,
    statements: ProgressBar,
    rows: ProgressBar,
    faults: Arc<AtomicU64>,
    watched: bool,
}

impl Progress {
    pub(crate) fn new(changes: &Changes, statements: usize) -> Self {
        let rows = changes.cycles.iter().map(Cycle::rows).sum();
        let bars = MultiProgress::new();
        let bar = |name: &'static str, length: u64, unit: &str| {
            let template =
                format!("{{prefix:>10}} {{bar:32.cyan/black}} {{human_pos}} of {{human_len}} {unit} {{msg}}");
            let style =
                ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
            bars.add(ProgressBar::new(length).with_style(style).with_prefix(name))
        };
        let progress = Self {
            cycles: bar("cycles", changes.cycles.len() as u64, ""),
            statements: bar("statements", statements as u64, ""),
            rows: bar("rows", rows, ""),
            faults: Arc::default(),
            watched: std::io::stderr().is_terminal(),
        };
        progress.cycles.enable_steady_tick(Duration::from_millis(200));
        progress
    }

    /// Shows the current activity.
    pub(crate) fn say(&self, what: &str) {
        self.cycles.set_message(what.to_owned());
        if !self.watched {
            eprintln!("{what}");
        }
    }

    /// Counts a cycle that an earlier process finished.
    pub(crate) fn skip(&self, cycle: &Cycle, statements: usize) {
        self.cycles.inc(1);
        self.statements.inc(statements as u64 + u64::from(cycle.number == 0));
        self.rows.inc(cycle.rows());
    }

    /// Shows the beginning of a cycle.
    pub(crate) fn begin(&self, cycle: &Cycle) {
        self.cycles.set_message(match cycle.number {
            0 => "initial load".to_owned(),
            _ => format!("up to {}", cycle.until.strftime("%H:%M")),
        });
    }

    /// Shows the end of a cycle.
    pub(crate) fn end_cycle(&self, cycle: &Cycle, record: &CycleRecord) {
        self.cycles.inc(1);
        self.rows.inc(cycle.rows());
        if !self.watched {
            eprintln!(
                "cycle {:>2}: {} statements in {}, {} faults retried; lake {}{}, lookups {}",
                record.cycle,
                record.warehouse.statements,
                seconds(record.warehouse.elapsed),
                record.warehouse.total_retried_errors(),
                seconds(record.tables.iter().map(|table| table.elapsed).sum()),
                record.catalog.as_ref().map_or_else(String::new, |catalog| format!(" with {catalog}")),
                seconds(record.lookups.latest + record.lookups.as_of_sale),
            );
        }
    }

    /// Removes the bars.
    pub(crate) fn clear(&self) {
        for bar in [&self.cycles, &self.statements, &self.rows] {
            bar.finish_and_clear();
        }
    }
}

impl Observer for Progress {
    fn observe(&self, _: &StepKey, event: &ProgressEvent<'_>) {
        match event {
            ProgressEvent::Ended { .. } | ProgressEvent::TaskEnded { .. } => self.statements.inc(1),
            ProgressEvent::RequestRetried { .. } => {
                let faults = self.faults.fetch_add(1, Ordering::Relaxed) + 1;
                self.statements.set_message(format!("({} faults retried)", grouped(faults)));
            }
            _ => {}
        }
    }
}

/// Formats the summary table.
pub(crate) fn summary(cycles: &[CycleRecord]) -> String {
    let totals = Totals::of(cycles);
    let warehouse = &totals.warehouse;
    let lookup = |cycle: Option<&CycleRecord>| {
        cycle.map_or_else(
            || "-".to_owned(),
            |cycle| {
                format!(
                    "{} latest, {} as of the sale",
                    seconds(cycle.lookups.latest),
                    seconds(cycle.lookups.as_of_sale)
                )
            },
        )
    };
    let faults: Vec<_> = warehouse.faults.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY);
    let mut lines = vec![
        ("statements", grouped(warehouse.statements.into())),
        ("retries", grouped(warehouse.retries.into())),
        (
            "faults retried",
            format!("{} ({})", grouped(warehouse.total_retried_errors().into()), faults.join(", ")),
        ),
        ("time waiting", seconds(warehouse.waiting)),
        ("time executing", seconds(warehouse.execution_time)),
        ("Hudi commits", grouped(totals.commits)),
        ("versions kept", format!("{} per file group, at most {VERSIONS_ALLOWED}", totals.versions)),
        ("bytes stored", bytes(totals.bytes)),
        // Omits the initial load, which looks up all earlier sales at once.
        ("lookup, first cycle", lookup(cycles.get(1))),
        ("lookup, last cycle", lookup(cycles.last())),
    ];
    if let Some(catalog) = &totals.catalog {
        lines.push(("catalog", catalog.to_string()));
    }
    for (name, value) in lines {
        table.add_row([name.to_owned(), value]);
    }
    table.to_string()
}
