//! Crawlers: exclusions, running crawlers, faults.

use std::{collections::BTreeMap, time::Duration};

use hudi_scd::{
    ErrorKind,
    glue::{
        aws_sdk_glue::types::{CatalogTarget, CrawlerTargets, HudiTarget, S3Target},
        crawler::{self, Crawlers, HudiTable},
    },
};
use rstest::rstest;
use serde_json::json;
use tokio::time::Instant;

use crate::service::Service;

fn s3(path: &str, exclusions: &[&str]) -> S3Target {
    S3Target::builder()
        .path(path)
        .set_exclusions(Some(exclusions.iter().map(|text| (*text).to_owned()).collect()))
        .connection_name("vpc")
        .sample_size(3)
        .build()
}

fn targets(targets: impl IntoIterator<Item = S3Target>) -> CrawlerTargets {
    CrawlerTargets::builder().set_s3_targets(Some(targets.into_iter().collect())).build()
}

fn tables(locations: &[&str]) -> Vec<HudiTable> {
    locations.iter().map(|location| HudiTable::new(*location)).collect()
}

#[rstest]
#[case("s3://bucket/lake", "s3://bucket/lake/customer", &[], Some("customer/**"))]
#[case("s3://bucket/lake/", "s3a://bucket/lake/customer/", &[], Some("customer/**"))]
#[case("bucket/lake", "s3://bucket/lake/a/customer", &[], Some("a/customer/**"))]
#[case("s3://bucket", "s3://bucket/customer", &["**_SUCCESS", "**crc"], Some("customer/**"))]
#[case("s3://bucket/lake", "s3://bucket/lake/customer", &["customer/**"], None)]
#[case("s3://bucket/lake", "s3://bucket/lake/customer", &["customer**"], None)]
#[case("s3://bucket/lake", "s3://bucket/lake/customer", &["customer/*"], Some("customer/**"))]
#[case("s3://bucket/lake", "s3://bucket/lake/customer", &["{customer"], Some("customer/**"))]
#[case("s3://bucket/lake", "s3://bucket/lake/a[1]", &["a[1]/**"], Some("a\\[1\\]/**"))]
#[case("s3://bucket/lake", "s3://bucket/lakehouse/customer", &[], None)]
#[case("s3://other/lake", "s3://bucket/lake/customer", &[], None)]
#[case("s3://bucket/lake/customer", "s3://bucket/lake/customer", &[], Some("**"))]
#[case("s3://bucket/lake/customer/region=eu", "s3://bucket/lake/customer", &[], Some("**"))]
#[tokio::test]
async fn a_target_needs_the_pattern_of_a_table_that_it_reaches(
    #[case] path: &str,
    #[case] location: &str,
    #[case] exclusions: &[&str],
    #[case] pattern: Option<&str>,
) {
    let service = Service::with_crawler(targets([s3(path, exclusions)])).await;
    let found = crawler::check(&service.glue, "clean", &tables(&[location])).await.unwrap();
    assert_eq!(found.first().and_then(|touch| touch.pattern.as_deref()), pattern);
}

#[tokio::test(start_paused = true)]
async fn exclusions_are_added_and_everything_else_is_kept() {
    let customer = HudiTable::new("s3://bucket/lake/customer").with_entry("lake", "customer");
    let address = HudiTable::new("s3://bucket/lake/customer_address");
    let mut before = targets([s3("s3://bucket/lake", &["**_SUCCESS"]), s3("s3://bucket/raw", &[])]);
    before.catalog_targets =
        Some(vec![CatalogTarget::builder().database_name("Lake").tables("Customer").build().unwrap()]);
    before.hudi_targets = Some(vec![HudiTarget::builder().paths("s3://bucket/lake/customer").build()]);
    let service = Service::with_crawler(before).await;
    let tables = [customer, address];

    let done = crawler::exclude(&service.glue, "clean", &tables, Duration::ZERO).await.unwrap();
    assert_eq!(
        done.to_string(),
        "the crawler clean excludes:
  customer/** in s3://bucket/lake
  customer_address/** in s3://bucket/lake
  s3://bucket/lake/customer is crawled by the catalog target Lake; remove it from this target
  s3://bucket/lake/customer is crawled by the Hudi target s3://bucket/lake/customer; remove it from this target"
    );
    assert_eq!(service.calls(), ["GetCrawler", "UpdateCrawler", "GetCrawler"]);
    assert_eq!(
        service.s3_targets().await,
        [
            s3("s3://bucket/lake", &["**_SUCCESS", "customer/**", "customer_address/**"]),
            s3("s3://bucket/raw", &[])
        ]
    );

    service.calls();
    let again = crawler::exclude(&service.glue, "clean", &tables, Duration::ZERO).await.unwrap();
    assert!(again.added.is_empty() && again.left.len() == 2);
    assert_eq!(service.calls(), ["GetCrawler"]);
}

#[tokio::test(start_paused = true)]
async fn a_running_crawler_is_waited_for_or_named() {
    let service = Service::with_crawler(targets([s3("s3://bucket/lake", &[])])).await;
    let tables = tables(&["s3://bucket/lake/customer"]);
    service.state().runs_until = Some(Instant::now() + Duration::from_secs(65));
    let error = crawler::exclude(&service.glue, "clean", &tables, Duration::from_secs(30)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains("crawler: clean, state: RUNNING"), "{error}");
    assert_eq!(service.exclusions().await, [[""; 0]]);

    let done = crawler::exclude(&service.glue, "clean", &tables, Duration::from_secs(600)).await.unwrap();
    assert_eq!(done.waited, Duration::from_secs(40));
    assert_eq!(service.exclusions().await, [["customer/**"]]);

    // A crawler that already excludes the tables may be running.
    service.state().runs_until = Some(Instant::now() + Duration::from_secs(65));
    assert!(
        crawler::exclude(&service.glue, "clean", &tables, Duration::ZERO).await.unwrap().added.is_empty()
    );
}

#[tokio::test(start_paused = true)]
async fn a_run_that_starts_before_the_update_is_waited_for() {
    let service = Service::with_crawler(targets([s3("s3://bucket/lake", &[])])).await;
    service.state().starts_after_read = Some(Duration::from_secs(120));
    let tables = tables(&["s3://bucket/lake/customer"]);
    let done = crawler::exclude(&service.glue, "clean", &tables, Duration::from_secs(600)).await.unwrap();
    assert_eq!((done.added.len(), service.exclusions().await), (1, vec![vec!["customer/**".to_owned()]]));
}

#[tokio::test(start_paused = true)]
async fn whatever_fails_on_the_way_the_tables_are_excluded_in_the_end() {
    let tables = tables(&["s3://bucket/lake/a", "s3://bucket/lake/b"]);
    let mut failed = 0;
    for seed in 0..1_000 {
        let service = Service::with_crawler(targets([s3("s3://bucket/lake", &["**crc"])])).await;
        service.state().faults = Some(fastrand::Rng::with_seed(seed));
        failed +=
            usize::from(crawler::exclude(&service.glue, "clean", &tables, Duration::ZERO).await.is_err());
        service.state().faults = None;
        crawler::exclude(&service.glue, "clean", &tables, Duration::ZERO).await.unwrap();
        assert_eq!(service.exclusions().await, [["**crc", "a/**", "b/**"]], "seed {seed}");
    }
    assert!(failed < 50, "{failed}");
}

#[tokio::test]
async fn hudi_tables_are_found_on_all_pages_of_a_database() {
    let service = Service::default();
    for number in 0..250 {
        let formats =
            ["org.apache.hudi.hadoop.HoodieParquetInputFormat", "org.apache.hadoop.mapred.TextInputFormat"];
        let (name, format) = (format!("t{number:03}"), formats[number % 2]);
        let storage = json!({ "InputFormat": format, "Location": format!("s3://bucket/lake/{name}") });
        service.state().put(json!({ "Name": name, "StorageDescriptor": storage }), BTreeMap::new());
    }
    let found = service.glue.hudi_tables("lake").await.unwrap();
    assert_eq!((found.len(), service.calls()), (125, vec!["GetTables"; 3]));
    let last = HudiTable::new("s3://bucket/lake/t248").with_entry("lake", "t248");
    assert_eq!(found.last(), Some(&last));
}

#[tokio::test]
async fn a_crawler_that_does_not_exist_is_named() {
    let service = Service::default();
    let error = crawler::check(&service.glue, "clean", &[]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("crawler: clean"), "{error}");
}
