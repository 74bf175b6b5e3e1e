//! Options and a program for Spark.

use crate::Place;

#[test]
fn options_are_lines_or_an_object_and_the_catalogs_on_request() {
    let place = Place::new();
    place.write("columns.txt", "id bigint, region string, at timestamp");
    place.ok("create t --name customer --record-key id --ordering-field at --partition-by region --retain-commits 5 --schema columns.txt");
    let lines = place.ok("spark options t");
    assert!(lines.contains("hoodie.cleaner.commits.retained=5\n"), "{lines}");
    assert!(!lines.contains("hive_sync") && !lines.contains("hoodie.write.table.version"), "{lines}");
    let options = place.json("spark options t --hudi 1.0.2");
    assert_eq!(options["hoodie.write.table.version"], "6");
    assert_eq!(options["hoodie.clean.commits.retained"], "5");
    let refused = place.run("spark options t --hudi 0.5.3");
    assert!(refused.code == 2 && refused.err.contains("from 0.14 on"), "{}", refused.err);
}

#[cfg(feature = "glue")]
#[test]
fn the_extractor_of_partition_values_is_a_class_that_exists() {
    let place = Place::new();
    place.write("columns.txt", "id bigint, region string, day date");
    for (partitions, class) in [
        ("", "NonPartitionedExtractor"),
        ("--partition-by region", "HiveStylePartitionValueExtractor"),
        ("--partition-by region,day", "MultiPartKeysValueExtractor"),
    ] {
        let name = class.to_lowercase();
        place.ok(&format!("create {name} --name customer --record-key id {partitions} --schema columns.txt"));
        let lines = place.ok(&format!("spark options {name} --database Lake"));
        assert!(
            lines.contains(&format!("partition_extractor_class=org.apache.hudi.hive.{class}\n")),
            "{lines}"
        );
        assert!(
            lines.contains("hive_sync.database=lake\n") && lines.contains("hive_sync.mode=hms\n"),
            "{lines}"
        );
        let timestamps = "hoodie.datasource.hive_sync.support_timestamp=true";
        let lines =
            place.ok(&format!("spark options {name} --database lake --table-name C --option {timestamps}"));
        assert!(lines.contains(timestamps) && lines.contains("hive_sync.table=c\n"), "{lines}");
    }
}

#[test]
fn the_program_is_printed_as_it_is() {
    let place = Place::new();
    assert_eq!(place.ok("spark script"), hudi_scd::spark::SCRIPT);
}
