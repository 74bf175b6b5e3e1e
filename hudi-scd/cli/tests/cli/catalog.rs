//! The table in a Glue catalog, on local servers that provide S3 and Glue: moto, and MiniStack. MiniStack
//! rejects an update that is based on an older version, and does not create versions itself.
//! `scripts/s3/server` starts them.

use rstest::rstest;

use crate::{Place, Run, s3::Bucket};

fn run(bucket: &Bucket, words: &str) -> Run {
    Run::of(bucket.command(words).output().unwrap())
}

#[rstest]
#[case::moto(Bucket::new)]
#[case::ministack(Bucket::on_ministack)]
#[ignore = "needs a Glue server: scripts/test"]
fn a_table_on_s3_is_in_the_catalog(#[case] on: fn(&str) -> Bucket) {
    let bucket = on("catalog");
    let database = format!("lake{}", std::process::id());
    bucket.place.write("columns.txt", "id bigint, region string, at timestamp");
    bucket.ok("create TABLE --name Customer --record-key id --ordering-field at --partition-by region --schema columns.txt");
    bucket.place.write("rows.csv", "id,region,at\n1,eu,2026-03-01T00:00:00Z\n2,us,2026-03-01T00:00:00Z\n");
    bucket.ok("upsert TABLE --input rows.csv");
    let option = "--option hoodie.datasource.hive_sync.support_timestamp=true";
    let sync = format!("catalog sync TABLE --database {database} {option}");
    let check = format!("catalog check TABLE --database {database} {option}");

    let missing = run(&bucket, &check);
    assert!(missing.code == 1 && missing.out.contains("is created"), "{}", missing.out);
    let planned = bucket.ok(&format!("{sync} --dry-run"));
    assert!(planned.contains("2 partitions created: eu, us"), "{planned}");
    assert_eq!(bucket.json(&sync)["partitions_created"], 2);
    assert_eq!(bucket.ok(&sync), format!("{database}.customer was up to date\n"));
    assert_eq!(bucket.ok(&check), format!("{database}.customer is up to date\n"));

    bucket.place.write("rows.csv", "id,region,at\n3,ap,2026-03-02T00:00:00Z\n");
    bucket.ok("upsert TABLE --input rows.csv");
    let report = bucket.json(&sync);
    assert_eq!((&report["partitions_created"], &report["attempts"]), (&1.into(), &1.into()), "{report}");

    // Without the option, the column would change its type.
    let refused = run(&bucket, &format!("catalog sync TABLE --database {database}"));
    assert!(refused.code == 1 && refused.err.contains("at from timestamp to bigint"), "{}", refused.err);
}

#[rstest]
#[case::moto(Bucket::new)]
#[case::ministack(Bucket::on_ministack)]
#[ignore = "needs a Glue server: scripts/test"]
fn a_crawler_that_would_touch_a_table_is_found(#[case] on: fn(&str) -> Bucket) {
    let bucket = on("crawler");
    let (database, crawler) =
        (format!("crawled{}", std::process::id()), format!("clean{}", std::process::id()));
    bucket.place.write("columns.txt", "id bigint, at bigint");
    bucket.ok("create TABLE --name customer --record-key id --ordering-field at --schema columns.txt");
    bucket.place.write("rows.csv", "id,at\n1,1\n");
    bucket.ok("upsert TABLE --input rows.csv");
    bucket.ok(&format!("catalog sync TABLE --database {database}"));
    let check = format!("catalog crawler check {crawler} --database {database}");
    let missing = run(&bucket, &check);
    assert!(missing.code == 1 && missing.err.contains("there is no such crawler"), "{}", missing.err);

    let created = bucket.glue(
        "CreateCrawler",
        &serde_json::json!({
            "Name": crawler, "Role": "arn:aws:iam::123456789012:role/glue", "DatabaseName": "raw",
            "Targets": {"S3Targets": [{"Path": bucket.url("lake"), "Exclusions": ["**_SUCCESS"]}]},
        }),
    );
    assert!(created.starts_with("HTTP/1.1 200"), "{created}");
    let found = run(&bucket, &check);
    assert!(found.code == 1 && found.out.ends_with("; exclude customer/**\n"), "{}{}", found.out, found.err);

    let other = format!("{crawler}-other");
    let created = bucket.glue(
        "CreateCrawler",
        &serde_json::json!({
            "Name": other, "Role": "arn:aws:iam::123456789012:role/glue", "DatabaseName": "raw",
            "Targets": {"S3Targets": [{"Path": bucket.url("lake"), "Exclusions": ["customer/**"]}]},
        }),
    );
    assert!(created.starts_with("HTTP/1.1 200"), "{created}");
    // There is nothing left to exclude, so no request is sent.
    let done = bucket.ok(&format!("catalog crawler exclude {other} TABLE"));
    assert_eq!(done, format!("the crawler {other} needs no further exclusion\n"));
}

#[test]
#[ignore = "needs a Glue server: scripts/test"]
fn a_crawler_is_kept_away_from_a_table() {
    // Moto does not implement UpdateCrawler.
    let bucket = Bucket::on_ministack("exclude");
    let crawler = format!("kept{}", std::process::id());
    bucket.place.write("columns.txt", "id bigint, at bigint");
    bucket.ok("create TABLE --name customer --record-key id --ordering-field at --schema columns.txt");
    let created = bucket.glue(
        "CreateCrawler",
        &serde_json::json!({
            "Name": crawler, "Role": "arn:aws:iam::123456789012:role/glue", "DatabaseName": "raw",
            "Targets": {"S3Targets": [
                {"Path": bucket.url("raw"), "Exclusions": []},
                {"Path": bucket.url("lake"), "Exclusions": ["**_SUCCESS"], "SampleSize": 3},
            ]},
        }),
    );
    assert!(created.starts_with("HTTP/1.1 200"), "{created}");
    let done = bucket.ok(&format!("catalog crawler exclude {crawler} TABLE"));
    assert_eq!(done, format!("the crawler {crawler} excludes:\n  customer/** in {}\n", bucket.url("lake")));
    let found = bucket.glue("GetCrawler", &serde_json::json!({"Name": crawler}));
    let (_, body) = found.split_once("\r\n\r\n").unwrap();
    let found: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(
        found["Crawler"]["Targets"]["S3Targets"][1],
        serde_json::json!({
            "Path": bucket.url("lake"), "Exclusions": ["**_SUCCESS", "customer/**"], "SampleSize": 3,
        })
    );
    let check = run(&bucket, &format!("catalog crawler check {crawler} TABLE"));
    assert_eq!(check.code, 0, "{}{}", check.out, check.err);
}

#[test]
fn a_command_line_that_cannot_be_meant_is_refused() {
    let place = Place::new();
    let refused = |words: &str| {
        let mut command = place.command(&words.split_whitespace().collect::<Vec<_>>());
        for name in ["AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION"] {
            command.env_remove(name);
        }
        let no_profile = place.path("no-profile");
        command.env("AWS_CONFIG_FILE", &no_profile).env("AWS_SHARED_CREDENTIALS_FILE", &no_profile);
        let run = Run::of(command.env("AWS_EC2_METADATA_DISABLED", "true").output().unwrap());
        assert_ne!(run.code, 0, "{words}");
        run.err
    };
    let local = refused("catalog sync lake/customer --database d");
    assert!(local.contains("--location s3://bucket/folder"), "{local}");
    let option = refused(
        "catalog sync s3://b/t --database d --option hoodie.datasource.hive_sync.create_managed_table=true",
    );
    assert!(option.contains("lose its files"), "{option}");
    let none = refused("catalog crawler check clean");
    assert!(none.contains("TABLE"), "{none}");
    let local = refused("catalog crawler exclude clean lake/customer");
    assert!(local.contains("s3://bucket/lake/customer"), "{local}");
    let option = refused("catalog sync s3://b/t --database d --option support_timestamp");
    assert!(option.contains("KEY=VALUE"), "{option}");
    let option = refused("catalog sync s3://b/t --database d --option hoodie.datasource.hive_sync.table=t");
    assert!(option.contains("set the database and the name of the registration"), "{option}");
    let option = refused("catalog sync s3://b/t --database d --option support_timestamp=true");
    assert!(option.contains("whole name, such as hoodie.datasource.hive_sync.support_timestamp"), "{option}");
    let option =
        refused("catalog sync s3://b/t --database d --option hoodie.datasource.hive_sync.colour=red");
    assert!(option.contains("unknown") && option.contains("colour"), "{option}");
    let location = refused("catalog sync lake/customer --database d --location lake/customer");
    assert!(location.contains("s3://bucket/lake/customer"), "{location}");
    place.table("customer", 1);
    let table = "customer --database d --location s3://b/customer";
    let nameless =
        refused("catalog ddl customer --database d --location s3://b/t --table-name= --create-table");
    assert!(nameless.contains("the table's name in the catalog must have 1 to 255"), "{nameless}");
    let endpoint = refused(&format!("catalog sync {table} --endpoint-url localhost:5000"));
    assert!(endpoint.contains("http://host:port"), "{endpoint}");
    let region = refused(&format!("catalog check {table}"));
    assert!(region.contains("AWS_REGION"), "{region}");
}

#[test]
fn an_endpoint_that_does_not_answer_is_named() {
    let place = Place::new();
    place.table("customer", 1);
    let table = "customer --database d --location s3://b/customer";
    for words in [format!("catalog check {table}"), "catalog crawler check clean --database d".to_owned()] {
        let mut command = place.command(&words.split_whitespace().collect::<Vec<_>>());
        // Port 1 is closed.
        command.args(["--endpoint-url", "http://127.0.0.1:1"]).env("AWS_MAX_ATTEMPTS", "1");
        command.env("AWS_REGION", "eu-west-1");
        command.env("AWS_ACCESS_KEY_ID", "id").env("AWS_SECRET_ACCESS_KEY", "secret");
        let run = Run::of(command.output().unwrap());
        assert_eq!(run.code, 1, "{}", run.err);
        assert!(run.err.contains("endpoint: http://127.0.0.1:1"), "{}", run.err);
    }
}

#[test]
fn the_sql_for_redshift_is_printed() {
    let place = Place::new();
    place.table("customer", 1);
    let words = "catalog ddl customer --database lake --location s3://bucket/customer --iam-role arn:r";
    let sql = place.ok(words);
    assert!(
        sql.starts_with("CREATE EXTERNAL SCHEMA IF NOT EXISTS \"lake\"") && sql.ends_with("EXISTS;\n"),
        "{sql}"
    );
    let table = place.ok(&format!("{words} --create-table --table-name t"));
    assert!(table.contains(";\n\nCREATE EXTERNAL TABLE \"lake\".\"t\" ("), "{table}");
    assert!(table.ends_with("LOCATION 's3://bucket/customer';\n"), "{table}");

    let since = place.commits("customer").remove(0);
    assert_eq!(place.ok(&format!("{words} --since {since}")), "-- nothing changed\n");
    assert_eq!(place.json(&format!("{words} --since {since}"))["statements"], serde_json::json!([]));
}

#[rstest]
#[case::moto(Bucket::new)]
#[case::ministack(Bucket::on_ministack)]
#[ignore = "needs a Glue server: scripts/test"]
fn two_processes_upsert_and_sync_one_table(#[case] on: fn(&str) -> Bucket) {
    const ROUNDS: usize = 4;
    let bucket = on("two");
    let database = format!("two{}", std::process::id());
    bucket.place.write("columns.txt", "id bigint, region string, at bigint");
    bucket.ok("create TABLE --name customer --record-key id --ordering-field at --partition-by region --schema columns.txt");
    let (bucket, database) = (&bucket, &database);
    std::thread::scope(|scope| {
        for side in 0..2 {
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let file = format!("{side}-{round}.csv");
                    // One row that only this side writes, and one that both sides write.
                    let rows = format!(
                        "id,region,at\n{},r{side}{round},1\n0,shared,{}\n",
                        1 + side * ROUNDS + round,
                        round * 2 + side
                    );
                    bucket.place.write(&file, &rows);
                    bucket.ok(&format!("upsert TABLE --input {file}"));
                    bucket.ok(&format!("catalog sync TABLE --database {database}"));
                }
            });
        }
    });
    // The server accepts an update that is based on an older version, so a sync with older data may be the
    // last one to arrive.
    bucket.ok(&format!("catalog sync TABLE --database {database}"));
    let check = format!("catalog check TABLE --database {database}");
    assert_eq!(bucket.ok(&check), format!("{database}.customer is up to date\n"));
    let rows = bucket.ok("read TABLE --columns id,region,at");
    assert_eq!(rows.lines().count(), 1 + 2 * ROUNDS, "{rows}");
    assert!(rows.contains(r#"{"id":0,"region":"shared","at":7}"#), "{rows}");
    bucket.ok("validate TABLE");
    let partitions =
        bucket.glue("GetPartitions", &serde_json::json!({"DatabaseName": database, "TableName": "customer"}));
    assert_eq!(partitions.matches("\"Values\"").count(), 1 + 2 * ROUNDS, "{partitions}");
}
