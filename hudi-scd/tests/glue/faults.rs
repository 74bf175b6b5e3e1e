//! Syncs while the catalog throttles, conflicts and loses replies.

use hudi_scd::glue;

use crate::{
    memory::MemoryCatalog,
    recording::{Recording, lines},
};

#[tokio::test(start_paused = true)]
async fn the_catalog_ends_as_the_table_is_whatever_fails_on_the_way() {
    for scenario in ["f-new-partitions", "g-dropped", "i-widening"] {
        let recording = Recording::load(scenario);
        let steps: Vec<_> = recording.steps.iter().filter(|step| step.table == "orders").collect();
        let mut tables = Vec::new();
        for step in &steps {
            tables.push((recording.table(step).await.unwrap(), step.options().unwrap()));
        }
        let calm = MemoryCatalog::default();
        for (table, options) in &tables {
            glue::sync(table, &calm, options).await.unwrap();
        }
        let mut failed = 0;
        for seed in 0..200 {
            let catalog = MemoryCatalog::with_faults(seed);
            for (table, options) in &tables {
                // A sync that gives up changes nothing that the next one does not complete.
                failed += usize::from(glue::sync(table, &catalog, options).await.is_err());
            }
            catalog.stop_faults();
            let (table, options) = tables.last().unwrap();
            glue::sync(table, &catalog, options).await.unwrap();
            let check = glue::check(table, &catalog, options).await.unwrap();
            assert!(check.is_empty(), "{scenario}, seed {seed}: {check}");
            assert_eq!(lines(&catalog), lines(&calm), "{scenario}, seed {seed}");
        }
        // The faults bite, and most syncs survive them.
        assert!((1..200 * tables.len() / 4).contains(&failed), "{scenario}: {failed} failed");
    }
}
