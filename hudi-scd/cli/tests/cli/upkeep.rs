//! Cleaning, archiving, rollback, savepoints; the output of `timeline` and `show`.

use std::path::PathBuf;

use serde_json::Value;

use crate::Place;

fn latest(place: &Place) -> String {
    place.lines("show t --json")[0]["latest"].as_str().unwrap().to_owned()
}

#[test]
fn the_table_keeps_its_retention() {
    let place = Place::new();
    place.table("t", 6);
    let summary = &place.lines("show t --json")[0];
    assert_eq!(
        (&summary["files"], &summary["commits"]),
        (&3.into(), &6.into()),
        "two commits, and one version before"
    );
    let plan = place.json("clean t --dry-run --retain-commits 1");
    assert_eq!(plan["files"], 1);
    assert_eq!(place.json("clean t")["files"], 0);
    assert_eq!(place.json("clean t --retain-commits 1")["files"], 1);
    assert_eq!(place.lines("show t --json")[0]["files"], 2);
    let run = place.run("clean t --retain-commits 1 --retain-hours 1");
    assert_eq!(run.code, 2, "{}", run.err);
}

#[test]
fn archived_actions_leave_the_timeline() {
    let place = Place::new();
    place.table("t", 8);
    assert_eq!(place.json("archive t")["actions"], 0);
    let moved = place.json("archive t --keep-min 4 --keep-max 5")["actions"].as_u64().unwrap();
    assert!(moved >= 4, "{moved}");
    let states = |words: &str, state: &str| {
        place.lines(words).iter().filter(|line| line["state"] == state).count() as u64
    };
    assert_eq!(states("timeline t --archived --json", "ARCHIVED"), moved);
    assert_eq!(states("timeline t --json", "ARCHIVED"), 0);
    assert!(place.ok("read t").contains("v8"));
    place.ok("validate t");
}

#[test]
fn the_latest_commit_can_be_undone_and_no_other() {
    let place = Place::new();
    place.table("t", 3);
    let commits = place.commits("t");
    let run = place.run(&format!("rollback t --instant {}", commits[1]));
    assert!(run.code == 1 && run.err.contains(&commits[2]), "{}", run.err);
    let report = place.json(&format!("rollback t --instant {}", commits[2]));
    assert_eq!((&report["files"], report["undone"].as_str()), (&1.into(), Some(commits[2].as_str())));
    assert!(place.ok("read t").contains("v2"));
    place.ok("validate t");
    let run = place.run("rollback t --instant 20200101000000000");
    assert!(run.code == 1 && run.err.contains("archived"), "{}", run.err);
    assert!(place.ok("timeline t").contains("undid"));
}

#[test]
fn a_savepoint_keeps_its_files() {
    let place = Place::new();
    place.table("t", 1);
    let saved = latest(&place);
    assert_eq!(place.json(&format!("savepoint t --instant {saved} --comment before"))["files"], 1);
    let run = place.run(&format!("rollback t --instant {saved}"));
    assert!(run.code == 1 && run.err.contains("savepoint"), "{}", run.err);
    for at in 2..8 {
        place.write("rows.jsonl", &format!(r#"{{"id":1,"v":"v{at}","at":{at}}}"#));
        place.ok("upsert t --input rows.jsonl");
    }
    let files = |place: &Place| place.lines("show t --json")[0]["files"].as_u64().unwrap();
    assert_eq!(files(&place), 4, "two commits, the version before, and the savepoint's file");
    assert_eq!(place.run(&format!("savepoint t --instant {saved}")).code, 1);
    place.ok(&format!("savepoint t --instant {saved} --delete"));
    place.ok("clean t");
    assert_eq!(files(&place), 3);
    assert_eq!(place.run(&format!("savepoint t --instant {saved} --delete")).code, 1);
    assert_eq!(place.run(&format!("savepoint t --instant {saved}")).code, 1, "its files are gone");
}

#[test]
fn pictures_are_for_people() {
    let place = Place::new();
    place.table("t", 3);
    let shown = place.ok("show t");
    for part in ["SCD type 1", "record key    id", "latest commit", "█"] {
        assert!(shown.contains(part), "{shown}");
    }
    let told = place.ok("timeline t");
    assert!(told.contains("upsert: 1 inserts, 0 updates, 0 deletes; 1 files"), "{told}");
}

#[test]
fn partitions_get_other_rows_and_no_others() {
    let place = Place::new();
    place.write("columns.txt", "tenant string, id int, day date, v string");
    place.ok("create t --name t --record-key tenant,id --partition-by day --schema columns.txt");
    place.write("a.csv", "tenant,id,day,v\na,1,2025-01-01,x\na,2,2025-01-01,x\nb,1,2025-01-02,x\n");
    assert_eq!(place.json("bulk-insert t --input a.csv")["inserted"], 3);
    place.write("b.csv", "tenant,id,day,v\na,1,2025-01-01,y\n");
    let report = place.json("insert-overwrite t --input b.csv");
    assert_eq!((&report["updated"], &report["overwritten"]), (&1.into(), &1.into()), "{report}");
    assert_eq!(place.json("insert-overwrite t --input b.csv")["instant"], serde_json::Value::Null);
    let rows = |words: &str| crate::canonical(&place.ok(words));
    let (new, kept) = (
        r#"{"day":"2025-01-01","id":1,"tenant":"a","v":"y"}"#,
        r#"{"day":"2025-01-02","id":1,"tenant":"b","v":"x"}"#,
    );
    assert_eq!(rows("read t"), [new, kept]);
    assert!(place.ok("insert-overwrite t --input b.csv --whole-table").contains("1 overwritten"));
    assert_eq!(rows("read t"), [new]);
    // A key of several columns, in Hudi's form.
    let history = place.lines("history t --key tenant:a,id:1");
    let states: Vec<_> = history.iter().map(|version| version["row"]["v"].as_str().unwrap()).collect();
    assert_eq!(states, ["x", "y"]);
    assert_eq!(place.lines("history t --key tenant:b,id:1").last().unwrap()["change"], "deleted");
    let run = place.run("history t --key 1");
    assert!(run.code == 1 && run.err.contains("tenant:VALUE,id:VALUE"), "{}", run.err);
    place.ok("validate t");
}

#[test]
fn every_command_speaks_json_a_line_at_a_time() {
    let place = Place::new();
    place.table("t", 4);
    let latest = latest(&place);
    place.write("columns.txt", "id bigint, v string");
    for words in [
        "create new --name new --record-key id --schema columns.txt",
        "upsert t --input rows.jsonl",
        "insert t --input rows.jsonl",
        "bulk-insert new --input rows.jsonl",
        "insert-overwrite t --input rows.jsonl",
        "delete t --keys rows.jsonl",
        "read t",
        "read t --meta-columns",
        "history t --key 1",
        "lookup t --facts rows.jsonl --on id=id --prefix d_",
        "timeline t",
        "timeline t --archived",
        "show t",
        "clean t --dry-run",
        "clean t",
        "archive t",
        &format!("savepoint t --instant {latest}"),
        &format!("savepoint t --instant {latest} --delete"),
        "validate t",
    ] {
        let run = place.run(&format!("{words} --json"));
        assert_eq!((run.code, run.err.as_str()), (0, ""), "{words}");
        for line in run.out.lines() {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            assert!(value.is_object(), "{words}: {line}");
        }
    }
    let undone = place.lines("show t --json")[0]["latest"].as_str().unwrap().to_owned();
    assert_eq!(place.json(&format!("rollback t --instant {undone}"))["undone"], undone);
}

#[test]
fn a_folder_keeps_the_index_between_runs() {
    let place = Place::new();
    place.table("t", 2);
    place.write("late.jsonl", r#"{"id":1,"v":"late","at":0}"#);
    for _ in 0..2 {
        assert_eq!(place.json("upsert t --input late.jsonl --index-cache kept/index")["late"], 1);
    }
    let entries = || std::fs::read_dir(place.path("kept/index")).unwrap().map(|entry| entry.unwrap().path());
    assert_eq!(entries().count(), 2, "the footer and the keys of one file");
    entries().for_each(|entry| std::fs::write(entry, "damaged").unwrap());
    assert_eq!(place.json("upsert t --input late.jsonl --index-cache kept/index")["late"], 1);
    place.write("keys.jsonl", r#"{"id":1}"#);
    assert_eq!(place.json("delete t --keys keys.jsonl --index-cache kept/index")["deleted"], 1);
    assert_eq!(place.ok("read t"), "");
    place.ok("validate t");
}

/// Returns the base files of `t`, oldest first.
fn base_files(place: &Place) -> Vec<PathBuf> {
    let files = std::fs::read_dir(place.path("t")).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        files.filter(|path| path.extension().is_some_and(|e| e == "parquet")).collect();
    files.sort_by_key(|path| path.to_str().unwrap().rsplit('_').next().unwrap().to_owned());
    files
}

fn findings(place: &Place) -> Vec<String> {
    let run = place.run("validate t --json");
    let found = run.out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let found: Vec<String> = found.map(|line| line["invariant"].as_str().unwrap().to_owned()).collect();
    assert_eq!(run.code, i32::from(!found.is_empty()), "{}", run.err);
    found
}

#[test]
fn damage_of_what_only_the_past_shows_is_found() {
    let place = Place::new();
    place.table("t", 3);
    let files = base_files(&place);
    let (older, newest) = (std::fs::read(&files[1]).unwrap(), std::fs::read(&files[2]).unwrap());
    assert_eq!(findings(&place), [""; 0]);
    std::fs::write(&files[1], &older[..100]).unwrap();
    assert_eq!(findings(&place), ["file-size", "unreadable"]);
    std::fs::write(&files[1], &older).unwrap();

    // An empty commit, as a full disk leaves it. Hudi reads it as a commit without writes, and treats its
    // files as data.
    let commits = place.commits("t");
    let commit = place.path(&format!("t/.hoodie/{}.commit", commits[2]));
    let said = std::fs::read(&commit).unwrap();
    std::fs::write(&commit, "").unwrap();
    assert_eq!(findings(&place), ["unlisted-file", "unreadable"]);
    std::fs::write(&commit, said).unwrap();

    place.ok(&format!("savepoint t --instant {}", commits[1]));
    place.ok("clean t --retain-commits 1");
    assert_eq!(findings(&place), [""; 0]);
    std::fs::remove_file(&files[1]).unwrap();
    assert_eq!(findings(&place), ["missing-file"], "the savepoint needs it");
    std::fs::write(&files[1], older).unwrap();
    std::fs::write(place.path(&format!("t/.hoodie/{}.savepoint", commits[1])), "x").unwrap();
    assert_eq!(findings(&place), ["unreadable"]);
    assert_eq!(std::fs::read(&files[2]).unwrap(), newest);
}

#[test]
fn a_checksum_of_hadoop_that_is_not_of_its_file_is_found() {
    let place = Place::new();
    place.table("t", 1);
    place.write("t/.hoodie/.hoodie.properties.crc", "crc\0\0\0\u{2}\0abcd");
    assert_eq!(findings(&place), ["stale-checksum"]);
    place.write("t/.hoodie/.not.there.crc", "crc");
    assert_eq!(findings(&place), ["stale-checksum"], "a checksum without a file is invalid");
}
