//! Inputs from public bug reports: change files, notations of values, and timelines of other writers.

use rstest::rstest;

use crate::{Place, copy};

/// apache/hudi#13233, #7688: a value means the same in any file and any option.
#[rstest]
#[case("timestamp", &["2024-07-10T16:27:04.939Z", "2024-07-10 18:27:04.939+02:00", "2024-07-10T16:27:04.939000"],
    &["1720628824939", "10.07.2024"])]
#[case("timestamp_ntz", &["2024-07-10T16:27:04.939", "2024-07-10 16:27:04.939000"], &["1720628824939"])]
#[case("date", &["2024-07-10"], &["19914", "2024-7-10"])]
#[case("decimal(10,2)", &["1.5", "1.50", "15e-1"], &["1.505", "one"])]
#[case("bigint", &["7", "7.0", "70e-1"], &["7.5", "seven"])]
#[case("double", &["0.5", "5e-1", ".5"], &["half"])]
#[case("boolean", &["true", "TRUE", "1"], &["yes", "2"])]
#[case("string", &["k:1", "k:1"], &[])]
fn a_value_is_read_alike_everywhere(
    #[case] data_type: &str,
    #[case] spellings: &[&str],
    #[case] refused: &[&str],
) {
    let place = Place::new();
    place.write("columns.txt", &format!("k {data_type}, v string"));
    place.ok("create t --name t --record-key k --schema columns.txt");
    let history = |key: &str| place.run_words(&["history", "t", "--key", key]);
    for (number, spelling) in spellings.iter().enumerate() {
        place.write("rows.csv", &format!("k,v\n{spelling},csv{number}\n"));
        place.write("rows.jsonl", &format!("{{\"k\":\"{spelling}\",\"v\":\"json{number}\"}}\n"));
        place.write("keys.csv", &format!("k\n{spelling}\n"));
        place.ok("upsert t --input rows.csv");
        let rows = place.lines("read t");
        assert_eq!((rows.len(), &rows[0]["v"]), (1, &format!("csv{number}").into()), "{spelling}");
        assert_eq!(place.json("upsert t --input rows.jsonl")["updated"], 1, "{spelling}");
        for key in spellings.iter().copied().chain(rows[0]["k"].as_str()) {
            let run = history(key);
            assert_eq!((run.code, run.err.as_str()), (0, ""), "{key}");
            assert!(run.out.contains(&format!("json{number}")), "{key}: {}", run.out);
        }
        assert_eq!(place.json("delete t --keys keys.csv")["deleted"], 1, "{spelling}");
    }
    for spelling in refused {
        let bare = spelling.starts_with(|c: char| c.is_ascii_digit()) && spelling.parse::<f64>().is_ok();
        let json = |value: &str| format!("\n{{\"k\":{value},\"v\":\"x\"}}\n");
        let mut files = vec![
            ("x.csv", "upsert t --input", format!("k,v\n{spelling},x\n")),
            ("x.jsonl", "upsert t --input", json(&format!("\"{spelling}\""))),
            ("x.csv", "delete t --keys", format!("k\n{spelling}\n")),
        ];
        if bare {
            files.push(("x.jsonl", "upsert t --input", json(spelling)));
        }
        for (name, command, content) in files {
            place.write(name, &content);
            let run = place.run(&format!("{command} {name}"));
            assert_eq!(run.code, 1, "{content}");
            for said in [name, "line: 2", "column: k", spelling] {
                assert!(run.err.contains(said), "{content}: {}", run.err);
            }
        }
        let run = history(spelling);
        assert_eq!(run.code, 1, "a value that cannot be is not unknown: {spelling}");
        assert!(run.err.contains("column: k") && run.err.contains(spelling), "{}", run.err);
    }
}

/// A key is also accepted in Hudi's stored form.
#[test]
fn a_key_may_be_given_as_hudi_stores_it() {
    let place = Place::new();
    place.write("columns.txt", "k timestamp, v string");
    place.ok("create t --name t --record-key k --schema columns.txt");
    place.write("rows.csv", "k,v\n2024-07-10T16:27:04.939Z,a\n");
    place.ok("upsert t --input rows.csv");
    assert_eq!(place.lines("history t --key 1720628824939000").len(), 1);

    place.write("columns.txt", "arn string, v string, at timestamp");
    place.ok("create dim --name d --record-key arn --scd2 --ordering-field at --schema columns.txt");
    place.write("rows.csv", "arn,v,at\narn:aws:s3:::logs,a,2025-01-01\n");
    place.ok("upsert dim --input rows.csv");
    for key in ["arn:aws:s3:::logs", "arn:arn:aws:s3:::logs"] {
        assert_eq!(place.lines(&format!("history dim --key {key}")).len(), 1, "{key}");
    }
}

/// apache/hudi#1885, #8981: Hudi writes composite keys without escapes, and Java's writer loses one of two
/// rows.
#[test]
fn two_keys_with_one_text_are_refused() {
    let place = Place::new();
    place.write("columns.txt", "a string, b string, v string");
    place.ok("create t --name t --record-key a,b --schema columns.txt");
    let rows = [("\"x,b:1\",2,one", "x,\"1,b:2\",two"), (",1,one", "__null__,1,two")];
    for (one, other) in rows {
        let refused = |words: &str, said: &[&str]| {
            let run = place.run(words);
            assert_eq!((run.code, run.out.as_str()), (1, ""), "{words}: {}", run.err);
            assert!(said.iter().all(|part| run.err.contains(part)), "{words}: {}", run.err);
        };
        place.write("both.csv", &format!("a,b,v\n{one}\n{other}\n"));
        for command in ["upsert", "insert", "bulk-insert", "insert-overwrite"] {
            let said = ["same text", "key: a:", "one: ", "other: ", "both.csv", "line: 3", "other line: 2"];
            refused(&format!("{command} t --input both.csv"), &said);
        }
        // Each of the keys alone is valid.
        place.write("one.csv", &format!("a,b,v\n{one}\n"));
        place.write("other.csv", &format!("a,b,v\n{other}\n"));
        place.write("other-key.csv", &format!("a,b\n{}\n", other.strip_suffix(",two").unwrap()));
        assert_eq!(place.json("upsert t --input one.csv")["inserted"], 1);
        assert_eq!(place.json("upsert t --input one.csv")["unchanged"], 1);
        let before = place.ok("read t");
        for words in
            ["upsert t --input other.csv", "insert t --input other.csv", "delete t --keys other-key.csv"]
        {
            refused(words, &["same text", "stored in"]);
        }
        assert_eq!(place.ok("read t"), before);
    }
}

/// apache/hudi#5036, #6552: change files have a column of operations, and delete rows contain only their key.
#[test]
fn change_files_of_dms_are_applied() {
    let place = Place::new();
    place.write("columns.txt", "id bigint, a string, ts bigint");
    place.ok("create t --name t --record-key id --ordering-field ts --schema columns.txt");
    place.write("load.csv", "id,a,ts\n1,x,1\n2,z,1\n3,y,1\n4,w,1\n");
    place.ok("upsert t --input load.csv");
    place.write("changes.csv", "Op,id,a,ts\nU,2,z2,2\nD,1,x,3\nD,3,,\nD,4,w,0\nI,5,v,1\nD,6,,\n");
    let report = place.json("upsert t --input changes.csv --operation-column Op");
    assert_eq!(report["deleted"], 2, "{report}");
    assert_eq!(report["late"], 1, "the delete of 4 is older than its row: {report}");
    let rows = |table: &str| -> Vec<(i64, String)> {
        let rows = place.lines(&format!("read {table}"));
        let mut rows: Vec<(i64, String)> = rows
            .iter()
            .map(|row| (row["id"].as_i64().unwrap(), row["a"].as_str().unwrap().to_owned()))
            .collect();
        rows.sort();
        rows
    };
    let row = |id: i64, a: &str| (id, a.to_owned());
    assert_eq!(rows("t"), [row(2, "z2"), row(4, "w"), row(5, "v")]);
    assert!(place.lines("read t").iter().all(|row| row.get("Op").is_none()), "Op does not join the table");

    // Deletes are applied in the order of the file's rows.
    place.write(
        "changes.jsonl",
        concat!(
            r#"{"Op":"U","id":2,"a":"z3","ts":3}"#,
            "\n",
            r#"{"Op":"D","id":2}"#,
            "\n\n",
            r#"{"Op":"D","id":5}"#,
            "\n",
            r#"{"Op":"I","id":5,"a":"v2","ts":9}"#,
            "\n"
        ),
    );
    place.ok("upsert t --input changes.jsonl --operation-column Op");
    assert_eq!(rows("t"), [row(4, "w"), row(5, "v2")]);
    place.ok("validate t");

    // The same for a history. In a history, a delete has a time.
    place.ok("create dim --name d --record-key id --ordering-field ts --scd2 --schema columns.txt");
    place.ok("upsert dim --input load.csv");
    place.write("changes.csv", "Op,id,a,ts\nU,2,z2,2\nD,1,,3\n");
    let report = place.json("upsert dim --input changes.csv --operation-column Op");
    assert_eq!((&report["history"]["closed"], &report["history"]["opened"]), (&2.into(), &1.into()));
    place.write("changes.csv", "Op,id,a,ts\nU,2,z3,4\nD,1,,\n");
    let run = place.run("upsert dim --input changes.csv --operation-column Op");
    for said in ["changes.csv", "line: 3", "key: 1", "column: ts"] {
        assert!(run.code == 1 && run.err.contains(said), "{}", run.err);
    }
}

/// apache/hudi PR 18061: an error about a row names its file, line and key.
#[rstest]
#[case("id,a,ts\n1,x,1\n\n7,y,\n", "", &["ordering value is null", "column: ts", "key: 7", "line: 4", "delete the key"])]
#[case("id,a,ts\n1,x,1\n,y,2\n", "", &["record key is null", "column: id", "line: 3"])]
#[case("Op,id,a,ts\nU,1,x,1\nX,7,y,1\n", "--operation-column Op", &["I, U or D", "value: X", "line: 3"])]
#[case("Op,id,a,ts\nU,1,x,1\n,7,y,1\n", "--operation-column Op", &["I, U or D", "value: NULL", "line: 3"])]
#[case("Op,id,a,ts\nU,1,x,1\nU,7,y,\n", "--operation-column Op", &["ordering value is null", "key: 7", "line: 3"])]
#[case("id,a,ts\n1,x,1\n", "--operation-column Op", &["lacks", "column: Op"])]
#[case("Op,id,a,ts,_hoodie_is_deleted\nU,1,x,1,true\n", "--operation-column Op", &["two columns", "_hoodie_is_deleted"])]
fn an_error_about_a_row_names_file_line_and_key(
    #[case] content: &str,
    #[case] option: &str,
    #[case] said: &[&str],
) {
    let place = Place::new();
    place.write("columns.txt", "id bigint, a string, ts bigint");
    place.ok("create t --name t --record-key id --ordering-field ts --schema columns.txt");
    // The row is in the second file of a folder.
    let header = content.lines().next().unwrap();
    let first = header.replace("Op", "U").replace("_hoodie_is_deleted", "false").replace("id,a,ts", "1,x,1");
    place.write("in/a.csv", &format!("{header}\n{first}\n"));
    place.write("in/b.csv", content);
    let run = place.run(&format!("upsert t --input in {option}"));
    assert_eq!((run.code, run.out.as_str()), (1, ""), "{}", run.err);
    for part in said.iter().copied().chain([if said.contains(&"lacks") || said.contains(&"two columns") {
        "in/a.csv"
    } else {
        "in/b.csv"
    }]) {
        assert!(run.err.contains(part), "{part}: {}", run.err);
    }
    assert_eq!(place.lines("timeline t --json").len(), 0, "nothing was written");
}

/// apache/hudi#1128, HUDI-2675: a dead writer, or an old release, leaves empty files on the timeline. They
/// neither stop reads nor disable cleaning. The only exception is an empty file that hides rows.
#[rstest]
#[case("commit")]
#[case("replacecommit")]
#[case("clean")]
#[case("rollback")]
#[case("savepoint")]
#[case("restore")]
#[case("indexing")]
fn empty_files_of_the_timeline_stop_nothing(#[case] action: &str) {
    let template = Place::new();
    template.table("t", 4);
    let file = |instant: &str, state: &str| match (action, state) {
        (_, "completed") => format!("{instant}.{action}"),
        ("commit", "inflight") => format!("{instant}.inflight"),
        _ => format!("{instant}.{action}.{state}"),
    };
    for states in [&["requested"][..], &["inflight"], &["completed"], &["requested", "inflight", "completed"]]
    {
        let place = Place::new();
        copy(&template.path("t"), &place.path("t"));
        copy(&template.path("t"), &place.path("sound"));
        let instant = match action {
            // A savepoint has the instant of the commit that it protects.
            "savepoint" => place.commits("t")[2].clone(),
            _ => "20990101000000000".to_owned(),
        };
        let names: Vec<String> = states.iter().map(|state| file(&instant, state)).collect();
        names.iter().for_each(|name| place.write(&format!("t/.hoodie/{name}"), ""));
        let is_completed = states.contains(&"completed");
        let case = format!("{action} {states:?}");
        if action == "replacecommit" && is_completed {
            for words in ["read t", "upsert t --input rows.jsonl", "validate t", "history t --key 1"] {
                place.write("rows.jsonl", r#"{"id":1,"v":"v9","at":9}"#);
                let run = place.run(words);
                assert_eq!(run.code, 1, "{case}: {words}");
                for said in
                    [names.last().unwrap(), "name the file groups that it replaced", "hint: restore the file"]
                {
                    assert!(run.err.contains(said), "{case}: {words}: {}", run.err);
                }
            }
            place.ok("timeline t");
            std::fs::remove_file(place.path(&format!("t/.hoodie/{}", names.last().unwrap()))).unwrap();
            place.ok("upsert t --input rows.jsonl");
            assert_eq!(place.lines("read t")[0]["v"], "v9", "{case}: the hint");
            continue;
        }
        // Reads return the same rows as without the files.
        for words in ["read TABLE", "history TABLE --key 1"] {
            let shown = |table: &str| place.ok(&words.replace("TABLE", table));
            assert_eq!(shown("t"), shown("sound"), "{case}");
        }
        place.ok("timeline t");
        place.ok("show t");
        let validated = place.run("validate t");
        let says = format!("{}{}", validated.out, validated.err);
        if is_completed && action != "indexing" {
            assert!(says.contains(names.last().unwrap().as_str()), "{case}: validate names the file: {says}");
        }
        // Writes and cleans continue, unless the action is one that only another engine can finish.
        let is_foreign = matches!(action, "restore" | "indexing") && !is_completed;
        let mut cleans = 0;
        for at in 5..=8 {
            place.write("rows.jsonl", &format!(r#"{{"id":1,"v":"v{at}","at":{at}}}"#));
            if is_foreign {
                let run = place.run("upsert t --input rows.jsonl");
                assert!(run.code == 1 && run.err.contains(action), "{case}: {}", run.err);
                continue;
            }
            let report = place.json("upsert t --input rows.jsonl");
            assert_eq!(report["upkeep_failed"], serde_json::json!([]), "{case}");
            cleans += usize::from(!report["cleaned"].is_null());
            assert_eq!(place.lines("read t")[0]["v"], format!("v{at}"), "{case}");
        }
        if !is_foreign {
            // An empty commit counts as a retained one, and a savepoint protects a file.
            assert!(cleans >= 2, "{case}: {cleans}");
            if action == "savepoint" && is_completed {
                let kept = std::fs::read_dir(place.path("t")).unwrap();
                let mut kept = kept.map(|file| file.unwrap().file_name().into_string().unwrap());
                assert!(kept.any(|file| file.ends_with(&format!("_{instant}.parquet"))), "{case}");
            }
            place.ok("archive t --keep-min 3 --keep-max 3");
            assert_eq!(place.lines("read t")[0]["v"], "v8", "{case}");
        }
    }
}

#[test]
fn a_timeline_of_completed_files_alone_is_whole() {
    let place = Place::new();
    place.table("t", 4);
    let mut removed = 0;
    for entry in std::fs::read_dir(place.path("t/.hoodie")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|state| state == "requested" || state == "inflight") {
            std::fs::remove_file(path).unwrap();
            removed += 1;
        }
    }
    assert!(removed >= 8, "{removed}");
    for words in ["read t", "timeline t", "show t", "history t --key 1", "validate t", "clean t", "archive t"]
    {
        place.ok(words);
    }
    place.write("rows.jsonl", r#"{"id":1,"v":"v5","at":5}"#);
    assert!(!place.json("upsert t --input rows.jsonl")["cleaned"].is_null());
    place.ok("validate t");
}
