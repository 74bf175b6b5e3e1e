//! Runs syncs while the catalog throttles calls, reports conflicts and loses responses.

use hudi_scd::glue::{self, SyncReport};

use crate::{
    recording::{Recording, lines},
    service::Service,
};

/// Number of runs. Each has its own seed, and the scenarios take turns.
const RUNS: u64 = 1_000;
const SCENARIOS: [&str; 3] = ["f-new-partitions", "g-dropped", "i-widening"];

fn counts(report: &SyncReport) -> (bool, usize, usize, usize) {
    let SyncReport { created, partitions_created, partitions_updated, partitions_dropped, .. } = report;
    (*created, *partitions_created, *partitions_updated, *partitions_dropped)
}

#[tokio::test(start_paused = true)]
async fn the_catalog_ends_as_the_table_is_whatever_fails_on_the_way() {
    for (number, scenario) in SCENARIOS.into_iter().enumerate() {
        let recording = Recording::load(scenario);
        let steps: Vec<_> = recording.steps.iter().filter(|step| step.table == "orders").collect();
        let mut tables = Vec::new();
        for step in &steps {
            tables.push((recording.table(step).await.unwrap(), step.options().unwrap()));
        }
        let calm = Service::default();
        let mut reports = Vec::new();
        for (table, options) in &tables {
            reports.push(counts(&glue::sync(table, &calm.glue, options).await.unwrap()));
        }
        let (mut syncs, mut failed) = (0, 0);
        for seed in (number as u64..).step_by(SCENARIOS.len()).take_while(|seed| *seed < RUNS) {
            let service = Service::with_faults(seed);
            let mut is_behind = false;
            for ((table, options), report) in tables.iter().zip(&reports) {
                syncs += 1;
                match glue::sync(table, &service.glue, options).await {
                    // A call whose response was lost counts, and a repeated one counts once.
                    Ok(found) if !is_behind => assert_eq!(counts(&found), *report, "{scenario}, seed {seed}"),
                    // It completed an abandoned sync.
                    Ok(_) => is_behind = false,
                    Err(_) => {
                        failed += 1;
                        is_behind = true;
                    }
                }
            }
            service.stop_faults();
            let (table, options) = tables.last().unwrap();
            glue::sync(table, &service.glue, options).await.unwrap();
            let check = glue::check(table, &service.glue, options).await.unwrap();
            assert!(check.is_empty(), "{scenario}, seed {seed}: {check}");
            assert_eq!(lines(&service), lines(&calm), "{scenario}, seed {seed}");
        }
        // The faults have an effect, but most syncs succeed.
        assert!((1..syncs / 4).contains(&failed), "{scenario}: {failed} of {syncs} failed");
        println!("{scenario}: {syncs} syncs, of which {failed} gave up");
    }
}
