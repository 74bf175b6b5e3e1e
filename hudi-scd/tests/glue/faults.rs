//! Runs syncs while the catalog throttles calls, reports conflicts and loses responses.

use hudi_scd::glue;

use crate::{
    recording::{Recording, lines},
    service::Service,
};

/// Number of runs. Each has its own seed, and the scenarios take turns.
const RUNS: u64 = 1_000;
const SCENARIOS: [&str; 3] = ["f-new-partitions", "g-dropped", "i-widening"];

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
        for (table, options) in &tables {
            glue::sync(table, &calm.glue, options).await.unwrap();
        }
        let (mut syncs, mut failed) = (0, 0);
        for seed in (number as u64..).step_by(SCENARIOS.len()).take_while(|seed| *seed < RUNS) {
            let service = Service::with_faults(seed);
            for (table, options) in &tables {
                // If a sync is abandoned, the next one completes it.
                syncs += 1;
                failed += usize::from(glue::sync(table, &service.glue, options).await.is_err());
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
