//! Hudi's Avro records on the timeline: clean, rollback, savepoint and requested replacecommit, one record
//! per file.
//!
//! The `.avsc` files next to this file are the schemas that Hudi 0.15 and 1.0 write. A file contains the
//! schema it was written with, so records of other releases can be read too. Their missing fields are `None`.

mod clean;
pub(in crate::timeline) mod ocf;
mod replace;
mod rollback;
mod savepoint;

pub use clean::{ActionInstant, CleanFileInfo, CleanMetadata, CleanPartitionMetadata, CleanPlan};
pub(in crate::timeline) use ocf::RecordSchema;
pub use replace::{ClusteringGroup, ClusteringPlan, ClusteringStrategy, RequestedReplace, SliceInfo};
pub use rollback::{InstantInfo, RollbackMetadata, RollbackPartitionMetadata, RollbackPlan, RollbackRequest};
pub use savepoint::{SavepointMetadata, SavepointPartitionMetadata};

#[cfg(test)]
mod tests {
    use super::*;

    fn golden(name: &str) -> Vec<u8> {
        std::fs::read(format!("{}/tests/data/timeline/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
    }

    /// Splits a file into the header's schema and the record, and drops the sync marker, which is random in
    /// Java.
    fn without_marker(file: &[u8]) -> (&[u8], &[u8]) {
        let marker = &file[file.len() - 16..];
        let header = file.windows(16).position(|window| window == marker).unwrap();
        (&file[..header], &file[header + 16..file.len() - 16])
    }

    #[rstest::rstest]
    fn writes_the_bytes_that_spark_wrote(#[values("0.15", "1.0-v6")] release: &str) {
        let same = |ours: &[u8], spark: &[u8]| {
            let (ours, spark) = (without_marker(ours), without_marker(spark));
            assert_eq!(String::from_utf8_lossy(ours.0), String::from_utf8_lossy(spark.0));
            assert_eq!(ours.1, spark.1);
        };
        if release == "0.15" {
            // A file with only one partition, because Java's maps have a different order.
            let file = golden("customer-0.15.clean.requested");
            same(&CleanPlan::decode(&file).unwrap().encode(), &file);
            let file = golden("customer-0.15.clean");
            same(&CleanMetadata::decode(&file).unwrap().encode(), &file);
            let file = golden("rolledback-0.15.rollback.requested");
            same(&RollbackPlan::decode(&file).unwrap().encode(), &file);
            let file = golden("rolledback-0.15.rollback");
            same(&RollbackMetadata::decode(&file).unwrap().encode(), &file);
        }
        let file = golden(&format!("address-{release}.clean.requested"));
        assert_eq!(without_marker(&CleanPlan::decode(&file).unwrap().encode()).0, without_marker(&file).0);
        let file = golden(&format!("address-{release}.clean"));
        assert_eq!(
            without_marker(&CleanMetadata::decode(&file).unwrap().encode()).0,
            without_marker(&file).0
        );
    }

    #[rstest::rstest]
    fn keeps_what_any_release_wrote(
        #[values("customer-0.14", "customer-0.15", "address-0.15", "address-1.0-v6")] table: &str,
    ) {
        let plan = CleanPlan::decode(&golden(&format!("{table}.clean.requested"))).unwrap();
        assert_eq!(plan.policy, "KEEP_LATEST_COMMITS");
        assert_eq!(plan.version, Some(2));
        assert_eq!(CleanPlan::decode(&plan.encode()).unwrap(), plan);

        let done = CleanMetadata::decode(&golden(&format!("{table}.clean"))).unwrap();
        assert_eq!(CleanMetadata::decode(&done.encode()).unwrap(), done);
        assert_eq!(done.last_completed_commit_timestamp, plan.last_completed_commit_timestamp);
        assert_eq!(
            Some(&done.earliest_commit_to_retain),
            plan.earliest_instant_to_retain.map(|i| i.timestamp).as_ref()
        );
        assert_eq!(
            done.partition_metadata.values().map(|p| p.success_delete_files.len()).sum::<usize>(),
            usize::try_from(done.total_files_deleted).unwrap()
        );
    }

    #[test]
    fn reads_a_rollback() {
        let plan = RollbackPlan::decode(&golden("rolledback-0.15.rollback.requested")).unwrap();
        let dead = plan.instant_to_rollback.unwrap();
        assert_eq!((dead.commit_time.as_str(), dead.action.as_str()), ("20261123043134148", "commit"));
        let done = RollbackMetadata::decode(&golden("rolledback-0.15.rollback")).unwrap();
        assert_eq!(done.commits_rollback, ["20261123043134148"]);
        assert_eq!(
            done.partition_metadata[""].success_delete_files,
            plan.rollback_requests.unwrap()[0].files_to_be_deleted
        );
    }

    #[test]
    fn a_savepoint_survives_the_way_there_and_back() {
        let files = vec!["f-0_0-1-2_20261123043134148.parquet".to_owned()];
        let partition =
            SavepointPartitionMetadata { partition_path: "day=1".to_owned(), savepoint_data_file: files };
        let savepoint = SavepointMetadata {
            savepointed_by: "user".to_owned(),
            savepointed_at: 1_795_411_800_123,
            comments: "before the move".to_owned(),
            partition_metadata: [("day=1".to_owned(), partition)].into(),
            version: Some(1),
        };
        assert_eq!(SavepointMetadata::decode(&savepoint.encode()).unwrap(), savepoint);
        assert_eq!(savepoint.encode(), savepoint.encode());
    }

    #[test]
    fn broken_files_are_errors() {
        let file = golden("customer-0.15.clean.requested");
        for cut in 0..file.len() {
            let error = CleanPlan::decode(&file[..cut]).unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::Corrupt, "cut at {cut}");
        }
        assert_eq!(CleanMetadata::decode(&file).unwrap_err().kind(), crate::ErrorKind::Corrupt);
    }

    proptest::proptest! {
        #[test]
        fn any_damage_is_an_error_or_a_record(
            damage in proptest::collection::vec((0_usize..2000, proptest::prelude::any::<u8>()), 1..5),
        ) {
            let mut file = golden("customer-0.15.clean.requested");
            for (place, byte) in damage {
                let place = place % file.len();
                file[place] = byte;
            }
            let _ = CleanPlan::decode(&file);
        }
    }
}
