//! Every error is one message that names its subject, with an exit code. Nothing panics.

use std::{
    io::{BufRead, BufReader},
    process::Stdio,
};

use rstest::rstest;
use serde_json::Value;

use crate::{Place, copy};

#[rstest]
#[case("", 2, "Usage")]
#[case("read", 2, "<TABLE>")]
#[case("read t --as-of yesterday", 2, "17 digits")]
#[case("read t --until 20250101000000000", 2, "--since")]
#[case("read t --json --format csv", 2, "--format")]
#[case("read gs://bucket/t", 2, "gs://")]
#[case("read s3://bucket", 2, "the bucket and the folder")]
#[case("create new --name n --record-key id", 2, "--schema")]
#[case("create new --name n --record-key id --schema columns.txt --like rows.jsonl", 2, "--like")]
#[case("create new --name n --record-key id --schema columns.txt --scd2", 2, "--ordering-field")]
#[case("create new --name n --record-key id --schema columns.txt --track v", 2, "--scd2")]
#[case("create new --name n --record-key id --schema nowhere.txt", 1, "nowhere.txt")]
#[case("create new --name n --record-key nope --schema columns.txt", 1, "column: nope")]
#[case("create new --name n --record-key id,v,id --schema columns.txt", 1, "twice { column: id }")]
#[case(
    "create new --name n --record-key id --partition-by v,v --schema columns.txt",
    1,
    "twice { column: v }"
)]
#[case("create t --name n --record-key id --schema columns.txt", 1, "already a table")]
#[case("read nowhere", 1, "nowhere")]
#[case("read .", 1, "hudi-scd create")]
#[case("read t --columns nope", 1, "column: nope")]
#[case("read t --columns id,v,id", 1, "twice { column: id }")]
#[case("read t --json --format csv", 2, "--format")]
#[case("read t --json --output new/x.csv", 2, "--output")]
#[case("read t --output no/such/folder/x.csv", 1, "no/such/folder")]
#[case("upsert t --input nowhere.csv", 1, "nowhere.csv")]
#[case("upsert t --input columns.txt", 1, "*.parquet")]
#[case("lookup t --facts rows.jsonl --on id", 2, "COL=KEY")]
#[case("archive t --keep-min 9 --keep-max 3", 2, "--keep-max")]
fn a_wrong_command_line_is_told_from_a_failure(#[case] words: &str, #[case] code: i32, #[case] said: &str) {
    let place = Place::new();
    place.table("t", 1);
    let run = place.run(words);
    assert_eq!((run.code, run.out.as_str()), (code, ""), "{words}: {}", run.err);
    assert!(run.err.contains(said), "{words}: {}", run.err);
    assert!(!place.path("new").exists(), "nothing is left behind");
}

#[rstest]
#[case("x.csv", "id,v,at\n1,a,1\n2,b,x\n", &["x.csv", "line: 3", "column: at", "\"x\" is not an integer"])]
#[case("x.csv", "id,v,at\n1,a\n", &["x.csv", "line: 2", "2 values"])]
#[case("x.csv", "id,v,at\n1,\"a,1\n", &["line: 2", "no closing quote"])]
#[case("x.csv", "id,v\n1,a\n", &["lacks", "column: at"])]
#[case("x.csv", "id,id,at\n", &["twice", "column: id"])]
#[case("x.csv", "", &["empty"])]
#[case("x.csv", "id,v,at,\n1,a,1,x\n", &["x.csv", "column: ,", "not allowed"])]
#[case("x.jsonl", "{\"id\":1,\"at\":1}\n\n{\"id\":2,\"at\":1.5}\n", &["x.jsonl", "line: 3", "column: at"])]
#[case("x.jsonl", "{\"id\":1,\n", &["line: 1", "not a JSON object"])]
#[case("x.json", "[{\"id\":1}]\n", &["one object per line"])]
#[case("x.jsonl", "{\"id\":9223372036854775808,\"at\":1}\n", &["column: id", "64 bits"])]
#[case("x.jsonl", "{\"id\":1,\"v\":{\"a\":1},\"at\":1}\n", &["column: v", "single value"])]
#[case("x.jsonl", "{\"id\":null,\"at\":1}\n", &["id"])]
#[case("x.jsonl", "{\"id\":1}\n", &["at"])]
#[case("x.csv", "id;v;at\n1;a;1\n", &["x.csv", "column: id;v;at", "not allowed"])]
#[case("x.csv", "id,v,at\n1,\u{FF}a,1\n2,b,9e99\n", &["x.csv", "line: 3", "column: at"])]
#[case("x.jsonl", "{\"id\":1,\"at\":1,\"a b\":1}\n", &["x.jsonl", "column: a b", "not allowed"])]
#[case("x/a.csv", "id,v,at,n\n1,a,1,1\n", &["x/b.jsonl", "column: n", "Int64", "Utf8"])]
#[case("x.parquet", "PAR1 and nothing else", &["x.parquet", "not valid Parquet"])]
fn broken_input_names_file_line_and_column(#[case] name: &str, #[case] content: &str, #[case] said: &[&str]) {
    let place = Place::new();
    place.table("t", 1);
    place.write(name, content);
    let input = match name.split_once('/') {
        // A folder whose files contradict each other.
        Some((folder, _)) => {
            place.write(&format!("{folder}/b.jsonl"), "{\"id\":2,\"v\":\"b\",\"at\":1,\"n\":\"one\"}\n");
            folder
        }
        None => name,
    };
    let run = place.run(&format!("upsert t --input {input}"));
    assert_eq!((run.code, run.out.as_str()), (1, ""), "{}", run.err);
    assert!(said.iter().all(|part| run.err.contains(part)), "{}", run.err);
    assert_eq!(run.err.lines().count(), 1, "one message: {}", run.err);
    assert_eq!(place.lines("timeline t --json").len(), 1, "nothing was written");
}

#[test]
fn columns_that_do_not_fit_name_the_file() {
    let place = Place::new();
    place.table("t", 1);
    // A Parquet file with different types.
    place.write("other.txt", "id string, v string, at double");
    place.ok("create other --name o --record-key id --schema other.txt");
    place.write("o.csv", "id,v,at\nx,a,1.5\n");
    place.ok("upsert other --input o.csv");
    place.ok("read other --output other.parquet");
    place.write("no-key.csv", "key,v\n1,a\n");
    for (words, said) in [
        ("upsert t --input other.parquet", ["other.parquet", "column: id", "Int64", "Utf8"]),
        ("insert-overwrite t --input other.parquet", ["other.parquet", "column: id", "Int64", "Utf8"]),
        ("delete t --keys no-key.csv", ["no-key.csv", "column: id", "needs: id", "lacks"]),
        ("lookup t --facts no-key.csv --on id=id", ["no-key.csv", "column: id", "facts", "no such column"]),
        ("lookup t --facts no-key.csv --on key=nope", ["column: nope", "dimension", "no such column", "t"]),
    ] {
        let run = place.run(words);
        assert_eq!((run.code, run.out.as_str()), (1, ""), "{words}: {}", run.err);
        assert!(said.iter().all(|part| run.err.contains(part)), "{words}: {}", run.err);
    }
    assert_eq!(place.lines("timeline t --json").len(), 1, "nothing was written");
}

#[rstest]
#[case("hoodie.table.type=COPY_ON_WRITE", "hoodie.table.type=MERGE_ON_READ", "hoodie.table.type")]
#[case("hoodie.table.version=6", "hoodie.table.version=10", "hoodie.table.version")]
#[case("hoodie.table.name=t", "hoodie.table.name=", "hoodie.table.name")]
fn tables_that_cannot_be_kept_right_are_refused_by_property(
    #[case] this: &str,
    #[case] that: &str,
    #[case] property: &str,
) {
    let place = Place::new();
    place.table("t", 1);
    let file = "t/.hoodie/hoodie.properties";
    let text = std::fs::read_to_string(place.path(file)).unwrap();
    assert!(text.contains(this), "{text}");
    place.write(file, &text.replace(this, that));
    for words in
        ["read t", "upsert t --input rows.jsonl", "validate t", "clean t", "show t", "history t --key 1"]
    {
        let run = place.run(words);
        assert_eq!((run.code, run.out.as_str()), (1, ""), "{words}: {}", run.err);
        assert!(run.err.contains(property), "{words}: {}", run.err);
    }
}

#[test]
fn a_table_with_an_unknown_merge_rule_is_read_and_writes_are_refused_by_property() {
    let place = Place::new();
    place.table("t", 1);
    let file = "t/.hoodie/hoodie.properties";
    let text = std::fs::read_to_string(place.path(file)).unwrap();
    assert!(text.contains("DefaultHoodieRecordPayload"), "{text}");
    place.write(file, &text.replace("DefaultHoodieRecordPayload", "OwnPayload"));
    for words in ["read t", "show t", "history t --key 1"] {
        let run = place.run(words);
        assert!(run.code == 0 && !run.out.is_empty(), "{words}: {}", run.err);
    }
    for words in ["upsert t --input rows.jsonl", "delete t --keys rows.jsonl"] {
        let run = place.run(words);
        assert_eq!((run.code, run.out.as_str()), (1, ""), "{words}: {}", run.err);
        assert!(run.err.contains("hoodie.compaction.payload.class"), "{words}: {}", run.err);
    }
    assert_eq!(place.lines("timeline t --json").len(), 1, "nothing was written");
}

#[test]
fn damage_of_any_file_is_told_and_never_a_panic() {
    let place = Place::new();
    place.table("t", 4);
    let mut files = Vec::new();
    for folder in [place.path("t"), place.path("t/.hoodie")] {
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        files.extend(entries.filter(|path| path.is_file()));
    }
    assert!(files.len() > 10);
    for (index, file) in files.iter().enumerate() {
        let broken = format!("broken-{index}");
        copy(&place.path("t"), &place.path(&broken));
        let file = place.path(&broken).join(file.strip_prefix(place.path("t")).unwrap());
        std::fs::write(&file, b"\x00\xffnot what it was").unwrap();
        for command in ["read", "validate", "timeline", "show"] {
            let run = place.run(&format!("{command} {broken}"));
            assert!(
                [0, 1].contains(&run.code),
                "{command} after {}: {} {}",
                file.display(),
                run.code,
                run.err
            );
            assert!(!run.err.contains("panicked"), "{command} after {}: {}", file.display(), run.err);
        }
    }
}

#[test]
fn errors_are_json_if_results_are() {
    let place = Place::new();
    let run = place.run("read nowhere --json");
    let error: Value = serde_json::from_str(run.err.trim()).unwrap();
    assert_eq!((run.code, &error["error"], &error["subject"]), (1, &"not found".into(), &"nowhere".into()));
    let run = place.run("read nowhere --as-of yesterday --json");
    let error: Value = serde_json::from_str(run.err.trim()).unwrap();
    assert_eq!((run.code, &error["error"]), (2, &"usage".into()));
}

#[test]
fn findings_are_exit_code_1_and_a_line_each() {
    let place = Place::new();
    place.table("t", 1);
    let stray = "t/00000000-0000-0000-0000-000000000000-0_0-0-0_20990101000000000.parquet";
    place.write(stray, "");
    let run = place.run("validate t --json");
    let finding: Value = serde_json::from_str(run.out.trim()).unwrap();
    assert_eq!((run.code, &finding["invariant"], run.err.as_str()), (1, &"stray-file".into(), ""));
}

#[test]
fn a_reader_that_has_had_enough_is_no_failure() {
    let place = Place::new();
    place.table("t", 0);
    let rows: String =
        (0..20_000).map(|id| format!("{{\"id\":{id},\"v\":\"some text\",\"at\":1}}\n")).collect();
    place.write("many.jsonl", &rows);
    place.ok("upsert t --input many.jsonl");
    for format in ["jsonl", "csv", "table", "parquet"] {
        let mut child = place
            .command(&["read", "t", "--format", format])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut first = Vec::new();
        let mut out = BufReader::with_capacity(16, child.stdout.take().unwrap());
        out.read_until(b'\n', &mut first).unwrap();
        drop(out);
        let done = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert_eq!((done.status.code(), said.as_str()), (Some(0), ""), "{format}");
    }
}
