//! Our sync and Hudi's on the same tables.

use hudi_scd::{ErrorKind, glue};
use rstest::rstest;

use crate::{
    memory::MemoryCatalog,
    recording::{Recording, SCENARIOS, Step, lines},
};

/// Steps in which our catalog differs from Hudi's, or ours ends otherwise, with the reason.
fn differs(scenario: &str, step: &str) -> Option<&'static str> {
    Some(match (scenario, step) {
        (
            "g-dropped",
            "insert-overwrite-table" | "dropped-then-written-again" | "dropped-and-rewritten-between-syncs",
        ) => "Hudi asks for a drop that has already happened, and fails for ever",
        ("m-foreign-table", _) => {
            "Hudi takes a table of another tool over without its SerDe, formats and keys"
        }
        ("r-faults", "slow-update-table-loses-the-schema-change") => {
            "Hudi does not await its updates, and loses the new column"
        }
        ("r-faults", _) => "the recorded fault does not happen in this catalog",
        ("o-conflict", "decimal-wider-rewritten") => "more digits on both sides are safe",
        ("o-conflict", "struct-wider") => "the write failed, and with it the sync after it",
        ("s-options", "managed") => "a managed table would lose its files with its entry; refused",
        ("s-options", "sync-comment") => "Hudi never sends a comment; refused",
        ("s-options", "keep-archive-mdt-listing" | "keep-archive-second") => {
            "no metadata table is kept, so readers must not list through it; refused"
        }
        ("s-options", "serde-properties-changed") => "Hudi never updates a SerDe property",
        ("s-options", "no-auto-create-database") => "the catalog of this test has the database",
        ("s-options", "partition-index" | "partition-index-again" | "partition-index-off") => {
            "partition indexes are left to their owner"
        }
        ("c-plain-style", "seed-wrong-extractor") => "refused before any call, as by Hudi",
        _ => return None,
    })
}

/// Returns what a catalog holds, without Hudi's parameter that names the Spark version.
fn described(catalog: &MemoryCatalog) -> Vec<String> {
    let mut lines = lines(catalog);
    lines.retain(|line| !line.starts_with("parameter spark.sql.create.version="));
    lines
}

fn recorded(step: &Step) -> Vec<String> {
    let catalog = MemoryCatalog::default();
    step.restore(&catalog);
    described(&catalog)
}

#[tokio::test(start_paused = true)]
async fn our_syncs_leave_the_catalog_that_hudis_leave() {
    let mut compared = 0;
    for scenario in SCENARIOS {
        let recording = Recording::load(scenario);
        let mut tables: std::collections::BTreeMap<String, MemoryCatalog> = Default::default();
        for step in &recording.steps {
            let Some(table) = recording.table(step).await else { continue };
            let catalog = tables.entry(step.table.clone()).or_default();
            let synced = match step.options() {
                Ok(options) => glue::sync(&table, catalog, &options).await,
                Err(error) => Err(error),
            };
            if differs(scenario, &step.name).is_some() {
                continue;
            }
            assert_eq!(synced.is_ok(), step.succeeded, "{scenario} {}: {synced:?}", step.name);
            assert_same(scenario, step, &described(catalog));
            compared += 1;
        }
    }
    assert!(compared >= 35, "{compared}");
}

fn assert_same(scenario: &str, step: &Step, ours: &[String]) {
    let hudis = recorded(step);
    let only = |one: &[String], other: &[String]| -> Vec<String> {
        one.iter().filter(|line| !other.contains(line)).cloned().collect()
    };
    let (more, less) = (only(ours, &hudis), only(&hudis, ours));
    assert!(more.is_empty() && less.is_empty(), "{scenario} {}: ours {more:#?}, Hudi's {less:#?}", step.name);
}

#[tokio::test(start_paused = true)]
async fn a_catalog_that_hudi_has_synced_needs_nothing_from_us() {
    let mut compared = 0;
    for scenario in SCENARIOS {
        let recording = Recording::load(scenario);
        for step in recording.steps.iter().filter(|step| step.succeeded) {
            let reason = differs(scenario, &step.name);
            let (Some(table), None) = (recording.table(step).await, reason) else { continue };
            let catalog = MemoryCatalog::default();
            step.restore(&catalog);
            let options = step.options().unwrap();
            let plan = glue::plan(&table, &catalog, &options).await.unwrap();
            let check = glue::check(&table, &catalog, &options).await.unwrap();
            assert!(plan.is_empty(), "{scenario} {}: {plan}", step.name);
            assert!(check.is_empty(), "{scenario} {}: {check}", step.name);
            compared += 1;
        }
    }
    assert!(compared >= 30, "{compared}");
}

#[tokio::test(start_paused = true)]
async fn partitions_that_were_dropped_and_written_again_are_in_the_catalog_in_the_end() {
    let recording = Recording::load("g-dropped");
    let catalog = MemoryCatalog::default();
    let mut seen = Vec::new();
    for step in &recording.steps {
        let table = recording.table(step).await.unwrap();
        glue::sync(&table, &catalog, &step.options().unwrap()).await.unwrap();
        let values: Vec<_> = catalog.state().partitions.keys().flatten().cloned().collect();
        seen.push(format!("{}: {}", step.name, values.join(" ")));
    }
    assert_eq!(
        seen,
        [
            "first: ap eu us",
            "moved-away: ap eu us",
            "deleted-rows: ap eu us",
            "delete-partition: ap eu",
            "insert-overwrite-table: eu",
            "dropped-then-written-again: ap eu",
            "dropped-and-rewritten-between-syncs: ap eu",
        ]
    );
}

#[rstest]
#[case("o-conflict", "rewritten-string-to-int", "code from string to int")]
#[case("o-conflict", "bigint-to-int-rewritten", "from bigint to int")]
#[case("j-types", "switch-timestamp-on", "ts from bigint to timestamp")]
#[tokio::test(start_paused = true)]
async fn a_change_of_a_type_that_readers_do_not_survive_is_refused_by_name(
    #[case] scenario: &str,
    #[case] name: &str,
    #[case] text: &str,
) {
    let recording = Recording::load(scenario);
    let step = recording.steps.iter().find(|step| step.name == name).unwrap();
    let catalog = MemoryCatalog::default();
    step.restore(&catalog);
    let before = lines(&catalog);
    let table = recording.table(step).await.unwrap();
    let error = glue::sync(&table, &catalog, &step.options().unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains(text), "{error}");
    assert_eq!(lines(&catalog), before);
}
