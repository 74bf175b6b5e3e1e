//! Gantt chart of a report as a self-contained SVG.

use std::{fmt::Write, time::Duration};

use super::{AttemptReport, Report, StepReport, StepStatus};

/// Lengths are in units of the SVG's `viewBox`, which is scaled to the width of its container.
const WIDTH: f64 = 960.0;
const ROW: f64 = 26.0;
const BAR: f64 = 14.0;
const TOP: f64 = 66.0;
const RIGHT: f64 = 78.0;
const LETTER: f64 = 6.7;

const STYLE: &str = "\
.g{font:12px system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif;fill:#1f2933}\
.g .t{font-size:15px;font-weight:600}.g .s{fill:#627282}.g .n{text-anchor:end}.g .a{text-anchor:middle;fill:#627282;font-size:11px}\
.g .grid{stroke:#e4e9ee;stroke-width:1}.g .row{fill:#f7f9fb}.g .wait{fill:#c9d8ea}.g .run{fill:#2f6fb7}\
.g .bad{fill:#c8372d}.g .badwait{fill:#f1c8c4}.g .done{fill:#9fb3c8}.g .skip{fill:#8795a3;font-style:italic}\
.g .retried{fill:#e8a33d;stroke:#fff;stroke-width:1}";

impl Report {
    /// Returns a Gantt chart of the run as a self-contained SVG for light backgrounds. Pale bars show waiting
    /// time and dark bars show execution time. Red bars show attempts that did not finish. A dot marks an
    /// attempt with retried errors. Tooltips show details.
    pub fn to_svg(&self) -> String {
        Chart::new(self).draw()
    }
}

struct Chart<'a> {
    report: &'a Report,
    rows: Vec<&'a StepReport>,
    left: f64,
    seconds: f64,
    svg: String,
}

impl<'a> Chart<'a> {
    fn new(report: &'a Report) -> Self {
        let mut rows: Vec<_> = report.steps.iter().collect();
        let begin =
            |step: &StepReport| step.attempts.first().map_or(Duration::MAX, |attempt| attempt.started);
        rows.sort_by_key(|step| begin(step));
        let longest = rows.iter().map(|step| shortened(&step.name).chars().count()).max().unwrap_or(0);
        let ends = report.steps.iter().flat_map(|step| &step.attempts).map(|attempt| attempt.ended);
        let end = ends.max().unwrap_or(report.elapsed);
        Self {
            report,
            rows,
            left: 28.0 + longest as f64 * LETTER,
            seconds: end.as_secs_f64().max(1e-3),
            svg: String::new(),
        }
    }

    fn draw(mut self) -> String {
        let height = TOP + self.rows.len() as f64 * ROW + 34.0;
        self.write(format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"g\" viewBox=\"0 0 {WIDTH} {height}\" width=\"100%\" role=\"img\" \
             aria-label=\"{}\"><style>{STYLE}</style>",
            escape(&format!("Gantt chart of {}, run {}", self.report.pipeline, self.report.run))
        ));
        self.head();
        self.grid();
        for number in 0..self.rows.len() {
            self.row(number);
        }
        self.svg.push_str("</svg>");
        self.svg
    }

    fn write(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = self.svg.write_fmt(text);
    }

    fn x(&self, instant: Duration) -> f64 {
        self.left + instant.as_secs_f64() / self.seconds * (WIDTH - RIGHT - self.left)
    }

    fn head(&mut self) {
        let report = self.report;
        let totals = report.totals();
        let plural =
            |count: u32, one: &str, many: &str| format!("{count} {}", if count == 1 { one } else { many });
        let tasks = match totals.tasks {
            0 => String::new(),
            count => format!(", {}", plural(count, "task", "tasks")),
        };
        self.write(format_args!(
            "<text x=\"12\" y=\"24\" class=\"t\">{}</text><text x=\"12\" y=\"43\" class=\"s\">{}</text>",
            escape(&format!("{} · {}", shortened(&report.pipeline), shortened(&report.run))),
            escape(&format!(
                "{}{} in {:.2} s · {} · {}",
                plural(totals.statements, "statement", "statements"),
                tasks,
                report.elapsed.as_secs_f64(),
                plural(totals.retries, "retry", "retries"),
                plural(totals.retried_errors, "retried error", "retried errors"),
            ))
        ));
        let mut x = WIDTH - 330.0;
        for (class, label, width) in
            [("wait", "waiting", 74.0), ("run", "executing", 84.0), ("bad", "not finished", 98.0)]
        {
            self.write(format_args!(
                "<rect x=\"{x}\" y=\"14\" width=\"11\" height=\"11\" rx=\"2\" class=\"{class}\"/><text x=\"{}\" y=\"24\">{label}</text>",
                x + 16.0
            ));
            x += width;
        }
        self.write(format_args!(
            "<circle cx=\"{}\" cy=\"19.5\" r=\"4.5\" class=\"retried\"/><text x=\"{}\" y=\"24\">retried</text>",
            x + 5.0,
            x + 14.0
        ));
    }

    fn grid(&mut self) {
        let bottom = TOP + self.rows.len() as f64 * ROW;
        let step = round_step(self.seconds / 8.0);
        let digits = (-step.log10().floor()).max(0.0) as usize;
        let mut tick = 0.0;
        while tick <= self.seconds + step * 1e-6 {
            let x = self.x(Duration::from_secs_f64(tick));
            self.write(format_args!(
                "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{}\" y2=\"{bottom}\" class=\"grid\"/>\
                 <text x=\"{x:.1}\" y=\"{}\" class=\"a\">{tick:.digits$} s</text>",
                TOP - 4.0,
                bottom + 18.0
            ));
            tick += step;
        }
    }

    fn row(&mut self, number: usize) {
        let step = self.rows[number];
        let top = TOP + number as f64 * ROW;
        let baseline = top + ROW / 2.0 + 4.0;
        if number.is_multiple_of(2) {
            self.write(format_args!(
                "<rect x=\"8\" y=\"{top}\" width=\"{}\" height=\"{ROW}\" rx=\"3\" class=\"row\" style=\"mix-blend-mode:multiply\"/>",
                WIDTH - 16.0
            ));
        }
        self.write(format_args!(
            "<text x=\"{:.1}\" y=\"{baseline}\" class=\"n\">{}</text>",
            self.left - 10.0,
            escape(&shortened(&step.name))
        ));
        let Some(last) = step.last_attempt() else {
            let reason = match &step.status {
                StepStatus::Skipped { because_of } => format!("skipped because of {because_of}"),
                StepStatus::NotStarted { because_of } => format!("not started because of {because_of}"),
                other => other.as_str().to_owned(),
            };
            self.write(format_args!(
                "<text x=\"{:.1}\" y=\"{baseline}\" class=\"skip\">{}</text>",
                self.left + 6.0,
                escape(&reason)
            ));
            return;
        };
        for attempt in &step.attempts {
            self.bar(step, attempt, top + (ROW - BAR) / 2.0);
        }
        let label = if last.origin == "journal" {
            "done before".to_owned()
        } else {
            format!("{:.2} s", (last.ended - step.attempts[0].started).as_secs_f64())
        };
        self.write(format_args!(
            "<text x=\"{:.1}\" y=\"{baseline}\" class=\"s\">{label}</text>",
            self.x(last.ended) + 8.0
        ));
    }

    fn bar(&mut self, step: &StepReport, attempt: &AttemptReport, y: f64) {
        let (from, to) = (self.x(attempt.started), self.x(attempt.ended));
        let executing =
            attempt.execution_time.unwrap_or_default().min(attempt.ended.saturating_sub(attempt.started));
        let begun = self.x(attempt.ended - executing);
        let (wait, run) = match (attempt.origin, attempt.result) {
            ("journal", _) => ("done", "done"),
            (_, "finished") => ("wait", "run"),
            _ => ("badwait", "bad"),
        };
        let mut title = format!(
            "{}, {}: {}, waiting {:.3} s, executing {:.3} s",
            step.name,
            attempt.title(),
            attempt.result,
            attempt.waiting.as_secs_f64(),
            executing.as_secs_f64()
        );
        if attempt.total_retried_errors() > 0 {
            let retried: Vec<_> =
                attempt.retried_errors.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
            let _ = write!(title, ", retried {}", retried.join(", "));
        }
        if let Some(error) = &attempt.error {
            let _ = write!(title, "\n{error}");
        }
        self.write(format_args!("<g><title>{}</title>", escape(&title)));
        // The pale bar continues behind the dark bar, so that both bars have rounded corners.
        self.write(format_args!(
            "<rect x=\"{from:.1}\" y=\"{y}\" width=\"{:.1}\" height=\"{BAR}\" rx=\"3\" class=\"{wait}\"/>",
            (to - from).max(2.0)
        ));
        if executing > Duration::ZERO {
            self.write(format_args!(
                "<rect x=\"{begun:.1}\" y=\"{y}\" width=\"{:.1}\" height=\"{BAR}\" rx=\"3\" class=\"{run}\"/>",
                (to - begun).max(2.0)
            ));
        }
        if attempt.total_retried_errors() > 0 {
            self.write(format_args!(
                "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"4.5\" class=\"retried\"/>",
                from + 7.0,
                y + BAR / 2.0
            ));
        }
        self.svg.push_str("</g>");
    }
}

/// Returns the next number that is 1, 2 or 5 times a power of ten.
fn round_step(least: f64) -> f64 {
    let power = 10_f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .iter()
        .map(|factor| factor * power)
        .find(|step| *step >= least)
        .unwrap_or(power * 10.0)
}

fn shortened(name: &str) -> String {
    const MOST: usize = 34;
    if name.chars().count() <= MOST {
        return name.to_owned();
    }
    name.chars().take(MOST - 1).chain(['…']).collect()
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            // XML does not allow control characters and two other characters, even if they are escaped.
            character if character.is_control() && character != '\n' => escaped.push(' '),
            '\u{fffe}' | '\u{ffff}' => escaped.push(' '),
            character => escaped.push(character),
        }
    }
    escaped
}
