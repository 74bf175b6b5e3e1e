//! Compares the syncs of this crate and of Hudi on the same tables.

use std::collections::BTreeMap;

use hudi_scd::{ErrorKind, glue};
use rstest::rstest;

use crate::{
    recording::{Recording, Requests, SCENARIOS, Step, lines},
    service::Service,
};

/// Returns the reason why the catalog or the result of a sync differs from Hudi's in this step. `None` if
/// they agree.
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
        ("y-unpartitioned", "column-added") => "Hudi does not await its updates, and loses the new column",
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
        ("t-several-columns", "raw-equals-sign") => {
            "Hudi creates the table, and then refuses a value with `=`"
        }
        ("u-days", "hive-style-on-plain" | "not-a-day") => {
            "Hudi creates the table, and then refuses its paths"
        }
        ("u-days", "non-partitioned-extractor") => "Hudi registers no partition, so that readers find no row",
        ("v-nested", "struct-field-removed-rewritten") => "Hudi accepts a struct that lost a field",
        ("x-properties", "first" | "equals-in-value") => "Hudi refuses a property whose value has `=`",
        ("x-properties", "simple" | "changed") => {
            "Hudi ignores a SerDe property that it sets itself; refused"
        }
        ("x-properties", "long-schema-parts" | "not-a-datasource-any-more" | "meta-fields-omitted-now") => {
            "Hudi keeps stale parts of the schema"
        }
        ("x-properties", "overrides-ours" | "overrides-again") => {
            "Hudi lets properties replace its own, until the next sync; refused"
        }
        ("c-plain-style", "seed-wrong-extractor") => "refused before any call, as by Hudi",
        _ => return None,
    })
}

/// Returns the content of a catalog, without Hudi's parameter that contains the Spark version.
fn described(service: &Service) -> Vec<String> {
    let mut lines = lines(service);
    lines.retain(|line| !line.starts_with("parameter spark.sql.create.version="));
    lines
}

fn recorded(step: &Step) -> Vec<String> {
    let service = Service::default();
    step.restore(&service);
    described(&service)
}

#[tokio::test(start_paused = true)]
async fn our_syncs_leave_the_catalog_that_hudis_leave() {
    let mut compared = 0;
    for scenario in SCENARIOS {
        let recording = Recording::load(scenario);
        let mut tables: BTreeMap<String, Service> = BTreeMap::new();
        for step in &recording.steps {
            let Some(table) = recording.table(step).await else { continue };
            let service = tables.entry(step.table.clone()).or_default();
            service.state().requests = Some(Vec::new());
            let synced = match step.options() {
                Ok(options) => glue::sync(&table, &service.glue, &options).await,
                Err(error) => Err(error),
            };
            if differs(scenario, &step.name).is_some() {
                continue;
            }
            assert_eq!(synced.is_ok(), step.succeeded, "{scenario} {}: {synced:?}", step.name);
            assert_same(scenario, step, &described(service));
            let sent = service.state().requests.take().unwrap_or_default();
            let sent = sent.into_iter().map(|(call, input)| (call.to_owned(), input)).collect();
            assert_eq!(Requests::new(sent), step.requests, "{scenario} {}", step.name);
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
            let service = Service::default();
            step.restore(&service);
            let options = step.options().unwrap();
            let plan = glue::read(&table, &service.glue, &options).await.unwrap().plan().unwrap();
            let check = glue::check(&table, &service.glue, &options).await.unwrap();
            assert!(plan.is_empty(), "{scenario} {}: {plan}", step.name);
            assert!(check.is_empty(), "{scenario} {}: {check}", step.name);
            compared += 1;
        }
    }
    assert!(compared >= 30, "{compared}");
}

#[tokio::test(start_paused = true)]
async fn a_catalog_that_hudi_1_0_2_has_synced_needs_nothing_from_us() {
    let mut compared = 0;
    for scenario in SCENARIOS {
        let recording = Recording::load(scenario);
        for step in &recording.steps {
            let service = Service::default();
            let Some(table) = recording.table(step).await else { continue };
            let (None, Ok(options)) = (differs(scenario, &step.name), step.options()) else { continue };
            if !step.restore_1_0_2(scenario, &service) {
                continue;
            }
            let check = glue::check(&table, &service.glue, &options).await.unwrap();
            assert!(check.is_empty(), "{scenario} {}: {check}", step.name);
            compared += 1;
        }
    }
    assert!(compared >= 45, "{compared}");
}

/// Hudi 0.15.0 declares that no list has nulls, and 1.0.2 that every list may have some.
#[tokio::test(start_paused = true)]
async fn a_catalog_that_says_otherwise_about_nulls_in_lists_is_left_alone() {
    let recording = Recording::load("v-nested");
    let step = recording.steps.iter().find(|step| step.name == "first").unwrap();
    let service = Service::default();
    step.restore(&service);
    let mut changed = 0;
    service.change(|table| {
        for (name, value) in table["Parameters"].as_object_mut().unwrap() {
            if name.starts_with("spark.sql.sources.schema.part.") {
                let text = value.as_str().unwrap().to_owned();
                let other = text.replace("\"containsNull\":false", "\"containsNull\":true");
                changed += usize::from(other != text);
                *value = other.into();
            }
        }
    });
    assert_eq!(changed, 1);
    let table = recording.table(step).await.unwrap();
    let plan = glue::read(&table, &service.glue, &step.options().unwrap()).await.unwrap().plan().unwrap();
    assert!(plan.is_empty(), "{plan}");
    // A stale part is removed nevertheless.
    service.change(|table| table["Parameters"]["spark.sql.sources.schema.part.1"] = "stale".into());
    let plan = glue::read(&table, &service.glue, &step.options().unwrap()).await.unwrap().plan().unwrap();
    assert!(plan.to_string().contains("parameter spark.sql.sources.schema.part.1 is removed"), "{plan}");
    assert!(!plan.to_string().contains("part.0"), "{plan}");
    // If there is another difference, the sync removes both.
    service.change(|table| {
        let name = "spark.sql.sources.schema.part.0";
        let text = table["Parameters"][name].as_str().unwrap().replace("integer", "long");
        table["Parameters"][name] = text.into();
    });
    glue::sync(&table, &service.glue, &step.options().unwrap()).await.unwrap();
    let parameters = service.entry().table["Parameters"].to_string();
    assert!(!parameters.contains("containsNull\\\":true"), "{parameters}");
}

#[tokio::test(start_paused = true)]
async fn partitions_that_were_dropped_and_written_again_are_in_the_catalog_in_the_end() {
    let recording = Recording::load("g-dropped");
    let service = Service::default();
    let mut seen = Vec::new();
    for step in &recording.steps {
        let table = recording.table(step).await.unwrap();
        glue::sync(&table, &service.glue, &step.options().unwrap()).await.unwrap();
        let values = service.partitions().concat();
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
    let service = Service::default();
    step.restore(&service);
    let before = lines(&service);
    let table = recording.table(step).await.unwrap();
    let error = glue::sync(&table, &service.glue, &step.options().unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains(text), "{error}");
    assert_eq!(lines(&service), before);
}
