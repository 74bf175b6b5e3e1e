//! Writes `report.html`, a self-contained page that any browser can open without network access.

use std::{fmt::Write, fs, path::PathBuf, time::Duration};

use anyhow::{Context, Result};

mod chart;

use chart::{Chart, Series, escape};

use crate::{
    lake::{LOOKUP_RUNS, VERSIONS_ALLOWED},
    proof::Proof,
    record::{CycleRecord, Totals, bytes, grouped, seconds},
    run_dir::{Manifest, RunDir},
};

/// Stores the Gantt chart of the statements of a cycle.
pub(crate) fn keep_gantt(dir: &RunDir, cycle: u32, report: &redshift_orchestrator::Report) -> Result<()> {
    let pictures = dir.file("gantt");
    fs::create_dir_all(&pictures)?;
    fs::write(pictures.join(format!("{cycle:02}.svg")), report.to_svg())
        .context("storing the Gantt chart of a cycle")
}

/// Writes `report.html` and returns its path.
pub(crate) fn write(dir: &RunDir, cycles: &[CycleRecord], proof: &Proof, rows: u64) -> Result<PathBuf> {
    let mut gantts = Vec::new();
    // Selects the cycle with the most faults, because its chart shows the most retries. A resumed cycle's
    // chart would only show its last process.
    let tried = cycles.iter().skip(1).filter(|cycle| !cycle.resumed);
    let tried = tried.max_by_key(|cycle| cycle.warehouse.total_retried_errors());
    for (title, cycle) in [("The initial load", cycles.first()), ("The cycle with the most faults", tried)] {
        let Some(cycle) = cycle else { continue };
        let svg = fs::read_to_string(dir.file("gantt").join(format!("{:02}.svg", cycle.cycle)))?;
        gantts.push((title.to_owned(), svg));
    }
    let story = Story { manifest: &dir.manifest, cycles, proof, gantts, rows };
    let path = dir.file("report.html");
    fs::write(&path, story.to_html()).with_context(|| format!("writing {}", path.display()))?;
    Ok(path.canonicalize()?)
}

const STYLE: &str = include_str!("style.css");

/// Contents of the report.
struct Story<'a> {
    manifest: &'a Manifest,
    cycles: &'a [CycleRecord],
    proof: &'a Proof,
    /// Titles and SVGs of the Gantt charts of the initial load and of one cycle.
    gantts: Vec<(String, String)>,
    /// Number of rows that the sources delivered.
    rows: u64,
}

impl Story<'_> {
    /// Renders the page.
    fn to_html(&self) -> String {
        let mut html = String::new();
        // Writing to a String cannot fail.
        let _ = self.write(&mut html);
        html
    }

    fn write(&self, html: &mut String) -> std::fmt::Result {
        write!(
            html,
            "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
             content=\"width=device-width,initial-scale=1\"><meta name=\"color-scheme\" content=\"light\">\
             <title>MyStore: a working day</title><style>{STYLE}</style></head><body><main>"
        )?;
        self.head(html)?;
        self.tiles(html)?;
        self.gantt(html)?;
        self.storage(html)?;
        self.lookups(html)?;
        self.proof(html)?;
        self.facts(html)?;
        html.push_str("</main></body></html>\n");
        Ok(())
    }

    fn head(&self, html: &mut String) -> std::fmt::Result {
        let checks = self.proof.checks.len();
        let badge = match &self.proof.failure {
            None => format!(
                "<p class=\"badge good\">Proved: {checks} checks over {} values, nothing lost or done twice</p>",
                grouped(self.proof.compared())
            ),
            Some(failure) => format!("<p class=\"badge bad\">The proof failed: {}</p>", escape(failure)),
        };
        let cycles = self.manifest.cycles;
        write!(
            html,
            "<header><h1>MyStore: a working day</h1><p class=\"lead\">An initial load and {cycles} half-hourly cycles: {} rows go \
             through SQL procedures into a warehouse, customers and addresses into Hudi tables.</p>{badge}</header>",
            grouped(self.rows)
        )
    }

    fn tiles(&self, html: &mut String) -> std::fmt::Result {
        let totals = Totals::of(self.cycles);
        let warehouse = &totals.warehouse;
        let faults: Vec<_> =
            warehouse.faults.iter().map(|(kind, count)| format!("{count} {}", escape(kind))).collect();
        let lookup = |cycle: Option<&CycleRecord>| {
            cycle.map_or_else(String::new, |cycle| seconds(cycle.lookups.latest + cycle.lookups.as_of_sale))
        };
        // Omits the initial load, which looks up all earlier sales at once.
        let (first, last) = (self.cycles.get(1), self.cycles.last());
        let mut tiles = vec![
            ("Statements", grouped(warehouse.statements.into()), format!("{} retries", warehouse.retries)),
            ("Faults retried", grouped(warehouse.total_retried_errors().into()), faults.join(", ")),
            (
                "Executing",
                seconds(warehouse.execution_time),
                format!("{} of waiting, summed over statements", seconds(warehouse.waiting)),
            ),
            ("Hudi commits", grouped(totals.commits), format!("{} stored", bytes(totals.bytes))),
            (
                "Versions kept",
                totals.versions.to_string(),
                format!("at most {VERSIONS_ALLOWED} per file group"),
            ),
            ("Lookups of a cycle", lookup(last), format!("the last one; the first took {}", lookup(first))),
        ];
        if let Some(catalog) = &totals.catalog {
            let more = format!("{} failed; {} in all", catalog.failed.len(), seconds(catalog.elapsed));
            tiles.push(("Catalog syncs", grouped(catalog.synced.into()), more));
        }
        html.push_str("<section class=\"tiles\">");
        for (name, value, more) in tiles {
            write!(
                html,
                "<div><h3>{name}</h3><p class=\"value\">{value}</p><p class=\"more\">{more}</p></div>"
            )?;
        }
        html.push_str("</section>");
        Ok(())
    }

    fn gantt(&self, html: &mut String) -> std::fmt::Result {
        html.push_str("<section><h2>The statements of a cycle</h2><p>Facts are loaded after dimensions. Independent steps run concurrently, up to \
                       the number of connections. Every statement takes effect exactly once, despite the faults.</p>");
        for (title, svg) in &self.gantts {
            write!(
                html,
                "<figure class=\"wide\"><figcaption>{}</figcaption><div>{svg}</div></figure>",
                escape(title)
            )?;
        }
        html.push_str("</section>");
        Ok(())
    }

    fn storage(&self, html: &mut String) -> std::fmt::Result {
        let versions = Chart {
            label: "Maximum number of versions of a file group, by table and cycle",
            unit: "versions per file group",
            series: one_if_the_same(self.tables(|table| table.versions as f64)),
            limit: Some((VERSIONS_ALLOWED as f64, "10 commits retained: at most 11 versions")),
            digits: 0,
        };
        let sizes = Chart {
            label: "Size of each table in storage by cycle",
            unit: "MB stored",
            series: self.tables(|table| table.bytes as f64 / 1e6),
            limit: None,
            digits: 3,
        };
        write!(
            html,
            "<section><h2>Storage is bounded</h2><p>Each cycle commits to the tables, and the cleaner keeps the files that the last 10 commits need. Once that \
             limit is reached, storage grows only with the data.</p><div class=\"pair\"><figure><figcaption>Versions kept</figcaption>{}</figure>\
             <figure><figcaption>Bytes</figcaption>{}</figure></div></section>",
            versions.draw(),
            sizes.draw()
        )
    }

    fn tables(&self, value: fn(&crate::record::TableRecord) -> f64) -> Vec<Series> {
        let names = self.cycles.first().into_iter().flat_map(|cycle| &cycle.tables);
        names
            .map(|named| Series {
                name: named.name.clone(),
                points: self
                    .cycles
                    .iter()
                    .flat_map(|cycle| cycle.tables.iter().map(move |table| (cycle.cycle, table)))
                    .filter(|(_, table)| table.name == named.name)
                    .map(|(cycle, table)| (cycle, value(table)))
                    .collect(),
            })
            .collect()
    }

    fn lookups(&self, html: &mut String) -> std::fmt::Result {
        let series = |name: &str, value: fn(&CycleRecord) -> Duration| Series {
            name: name.to_owned(),
            points: self
                .cycles
                .iter()
                .skip(1)
                .map(|cycle| (cycle.cycle, value(cycle).as_secs_f64() * 1e3))
                .collect(),
        };
        let times = Chart {
            label: "Time of the lookups by cycle",
            unit: "milliseconds per cycle",
            series: vec![
                series("latest row", |cycle| cycle.lookups.latest),
                series("row valid at the sale", |cycle| cycle.lookups.as_of_sale),
            ],
            limit: None,
            digits: 1,
        };
        let statements = Chart {
            label: "Time of the statements by cycle",
            unit: "seconds per cycle",
            series: vec![
                Series {
                    name: "executing".to_owned(),
                    points: self.after_initial_load(|cycle| cycle.warehouse.execution_time.as_secs_f64()),
                },
                Series {
                    name: "waiting".to_owned(),
                    points: self.after_initial_load(|cycle| cycle.warehouse.waiting.as_secs_f64()),
                },
            ],
            limit: None,
            digits: 2,
        };
        write!(
            html,
            "<section><h2>Lookups and statements</h2><p>Each cycle reads the customers from the lake and looks up two rows for every \
             new sale: the customer's latest row, and the row that was valid at the time of the sale. Each duration is the best of {LOOKUP_RUNS} runs. {} \
             (Durations of concurrent statements are summed.)</p>\
             <div class=\"pair\"><figure><figcaption>Lookup time</figcaption>{}</figure><figure><figcaption>Statement time</figcaption>{}</figure></div></section>",
            self.lookup_medians(),
            times.draw(),
            statements.draw()
        )
    }

    /// Formats the median lookup times of the first and the last cycles.
    fn lookup_medians(&self) -> String {
        let after_load = self.cycles.get(1..).unwrap_or_default();
        let count = (after_load.len() / 2).min(5);
        if count == 0 {
            return String::new();
        }
        let text = |value: fn(&CycleRecord) -> Duration| {
            let first = median(after_load[..count].iter().map(value).collect());
            let last = median(after_load[after_load.len() - count..].iter().map(value).collect());
            format!("{} and {}", seconds(first), seconds(last))
        };
        format!(
            "Median of the first and of the last {count} cycles: {} for the latest row, {} for the row valid at the sale.",
            text(|cycle| cycle.lookups.latest),
            text(|cycle| cycle.lookups.as_of_sale)
        )
    }

    fn after_initial_load(&self, value: fn(&CycleRecord) -> f64) -> Vec<(u32, f64)> {
        self.cycles.iter().skip(1).map(|cycle| (cycle.cycle, value(cycle))).collect()
    }

    fn proof(&self, html: &mut String) -> std::fmt::Result {
        html.push_str("<section><h2>The proof</h2><p>The program computes the expected result from the generated change stream, with plain maps, and compares it \
                       with the contents of the warehouse and the lake.</p><table><thead><tr><th>check</th><th class=\"number\">values compared</th></tr></thead><tbody>");
        for check in &self.proof.checks {
            write!(
                html,
                "<tr><td>{}</td><td class=\"number\">{}</td></tr>",
                escape(&check.name),
                grouped(check.compared)
            )?;
        }
        if let Some(failure) = &self.proof.failure {
            write!(html, "<tr class=\"bad\"><td colspan=\"2\">{}</td></tr>", escape(failure))?;
        }
        html.push_str("</tbody></table></section>");
        Ok(())
    }

    fn facts(&self, html: &mut String) -> std::fmt::Result {
        let manifest = self.manifest;
        let resumed: Vec<_> =
            self.cycles.iter().filter(|cycle| cycle.resumed).map(|cycle| cycle.cycle.to_string()).collect();
        let resumed =
            if resumed.is_empty() { "none".to_owned() } else { format!("in cycle {}", resumed.join(", ")) };
        let facts = [
            ("Run", manifest.run_id.clone()),
            (
                "Scale factor, cycles, seed",
                format!("{}, {}, {}", manifest.scale, manifest.cycles, manifest.seed),
            ),
            ("Warehouse", manifest.warehouse.clone()),
            ("Lake", manifest.s3.clone().unwrap_or_else(|| "in the directory of the run".to_owned())),
            ("Catalog", manifest.glue.clone().unwrap_or_else(|| "none".to_owned())),
            ("Crashes resumed from", resumed),
            ("Repeat the run", format!("cargo run {} -- {}", manifest.program(), manifest.options())),
        ];
        html.push_str("<section><h2>The run</h2><table class=\"facts\"><tbody>");
        for (name, value) in facts {
            write!(html, "<tr><th>{name}</th><td>{}</td></tr>", escape(&value))?;
        }
        html.push_str("</tbody></table></section>");
        Ok(())
    }
}

/// Returns the median. For an even number of values, returns the higher of the two in the middle.
fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// Merges the series into one if all have the same points.
fn one_if_the_same(series: Vec<Series>) -> Vec<Series> {
    match &series[..] {
        [first, rest @ ..] if !rest.is_empty() && rest.iter().all(|other| other.points == first.points) => {
            vec![Series { name: format!("all {} tables", series.len()), points: first.points.clone() }]
        }
        _ => series,
    }
}
