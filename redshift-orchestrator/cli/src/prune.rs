//! `prune`: removes old runs from a journal.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use jiff::{Span, SpanRelativeTo, Unit};
use redshift_orchestrator::{
    Clock, Error, ErrorKind, Result, SystemClock,
    journal::{Prune, Pruned, prune as remove},
};
use serde_json::json;

use crate::{
    exit::Exit,
    journal::in_use,
    options::{JournalOptions, OutputOptions},
    show,
};

#[derive(Args)]
pub(crate) struct PruneOptions {
    /// Pipeline file, which determines the journal unless --journal is given
    #[arg(value_name = "PIPELINE", required_unless_present = "journal")]
    pipeline: Option<PathBuf>,

    /// Keep runs that began or ended within this time, such as 90d, 12w or 36h
    #[arg(long, value_name = "AGE", value_parser = age)]
    keep: Duration,

    /// Also remove failed runs, unless the outcome of one of their statements is unknown
    #[arg(long)]
    failed: bool,

    /// Print the runs that would be removed, without removing them
    #[arg(long)]
    dry_run: bool,

    #[command(flatten)]
    journal: JournalOptions,

    #[command(flatten)]
    output: OutputOptions,
}

pub(crate) async fn prune(options: &PruneOptions) -> Result<Exit> {
    let path = options.pipeline.as_deref().unwrap_or(Path::new(""));
    let before = SystemClock.now().checked_sub(options.keep).map_err(|error| {
        Error::new(ErrorKind::Invalid, "the time in --keep is too long").with_source(error)
    })?;
    let location = options.journal.location(path);
    let message = "another process uses the journal; remove old runs when that process has ended";
    let journal = match options.dry_run {
        true => location.look().await?,
        false => location.open_existing(false).await.map_err(|error| in_use(error, message))?,
    };
    let wanted = Prune::before(before).with_failed(options.failed).with_dry_run(options.dry_run);
    let pruned = remove(&*journal, &wanted).await?;
    if options.output.json {
        let kept: Vec<_> =
            pruned.kept.iter().map(|kept| json!({"run": kept.run, "reason": kept.reason.as_str()})).collect();
        show::line(&json!({
            "event": "pruned",
            "before": before.to_string(),
            "dry_run": options.dry_run,
            "removed": pruned.removed,
            "kept": kept,
        }));
    } else {
        print(&pruned, options.dry_run);
    }
    Ok(Exit::Success)
}

fn print(pruned: &Pruned, dry_run: bool) {
    let runs = |number: usize| if number == 1 { "1 run".to_owned() } else { format!("{number} runs") };
    let what = if dry_run { "would remove" } else { "removed" };
    show::out(&format!("{what} {}", runs(pruned.removed.len())));
    pruned.removed.iter().for_each(|run| show::out(&format!("    {run}")));
    if !pruned.kept.is_empty() {
        show::out(&format!("kept {} old enough to be removed", runs(pruned.kept.len())));
        pruned.kept.iter().for_each(|kept| show::out(&format!("    {}  {}", kept.run, kept.reason)));
    }
}

/// Parses an age in days, weeks or shorter units. A day has 24 hours.
fn age(text: &str) -> Result<Duration, String> {
    let seconds = text
        .parse::<Span>()
        .and_then(|span| span.total((Unit::Second, SpanRelativeTo::days_are_24_hours())))
        .ok()
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.ok_or_else(|| "expected an age such as 90d, 12w or 36h".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_parsed_with_their_units() {
        for (text, hours) in [("90d", 90 * 24), ("12w", 12 * 7 * 24), ("36h", 36), ("1d 12h", 36)] {
            assert_eq!(age(text), Ok(Duration::from_secs(hours * 3_600)), "{text}");
        }
        for text in ["", "90", "-1d", "3 months", "1y"] {
            assert!(age(text).is_err(), "{text}");
        }
    }
}
