//! SCD type 2 on the command line.

use crate::Place;

fn dimension(place: &Place) {
    place.write("columns.txt", "tenant string, id int, city string, phone string, at timestamp");
    place.ok(
        "create dim --name dim --record-key tenant,id --ordering-field at --scd2 --track city --partition-by is_current \
         --schema columns.txt",
    );
    place.write(
        "a.csv",
        "tenant,id,city,phone,at\na,1,Oslo,1,2025-01-01\na,1,Rome,2,2025-03-01\nb,1,Kyiv,3,2025-01-01\n",
    );
    place.ok("upsert dim --input a.csv");
}

#[test]
fn a_table_of_type_2_stays_one() {
    let place = Place::new();
    dimension(&place);
    place.write(
        "late.jsonl",
        concat!(
            r#"{"tenant":"a","id":1,"city":"Bern","phone":"9","at":"2025-02-01T00:00:00Z"}"#,
            "\n",
            r#"{"tenant":"b","id":1,"at":"2025-02-01T00:00:00Z","_hoodie_is_deleted":true}"#
        ),
    );
    let report = place.json("upsert dim --input late.jsonl");
    let history = &report["history"];
    assert_eq!((&history["late"], &history["split"], &history["closed"]), (&1.into(), &1.into(), &1.into()));
    assert_eq!(place.json("upsert dim --input late.jsonl")["instant"], serde_json::Value::Null);

    let expected = concat!(
        r#"{"tenant":"a","id":1,"city":"Oslo","phone":"2","valid_from":"2025-01-01T00:00:00.000000Z","valid_to":"2025-02-01T00:00:00.000000Z","is_current":false}"#,
        "\n",
        r#"{"tenant":"a","id":1,"city":"Bern","phone":"2","valid_from":"2025-02-01T00:00:00.000000Z","valid_to":"2025-03-01T00:00:00.000000Z","is_current":false}"#,
        "\n",
        r#"{"tenant":"a","id":1,"city":"Rome","phone":"2","valid_from":"2025-03-01T00:00:00.000000Z","valid_to":null,"is_current":true}"#,
        "\n"
    );
    assert_eq!(place.ok("history dim --key tenant:a,id:1"), expected);
    assert_eq!(place.lines("read dim").len(), 4);
    assert_eq!(place.lines("read dim --columns city")[0].as_object().unwrap().len(), 1);
    place.ok("validate dim");
}

#[test]
fn keys_of_a_history_are_deleted_at_a_time() {
    let place = Place::new();
    dimension(&place);
    place.write("gone.csv", "tenant,id,at\nb,1,2025-06-01\n");
    assert_eq!(place.json("delete dim --keys gone.csv")["history"]["closed"], 1);
    let rows = place.lines("history dim --key tenant:b,id:1");
    assert_eq!(rows[0]["valid_to"], "2025-06-01T00:00:00.000000Z");
    place.write("gone.csv", "tenant,id\nb,1\n");
    let run = place.run("delete dim --keys gone.csv");
    assert!(run.code == 1 && run.err.contains("column: at"), "{}", run.err);
    assert_eq!(place.run("insert dim --input a.csv").code, 2);
}

#[test]
fn facts_find_the_row_of_their_time() {
    let place = Place::new();
    dimension(&place);
    place
        .write("facts.csv", "sale,who,t,sold\n1,1,a,2025-02-15\n2,1,a,2025-03-01\n3,1,a,2024-01-01\n4,,a,\n");
    let cities = |words: &str| -> Vec<String> {
        let rows = place.lines(&format!("lookup dim --facts facts.csv --on t=tenant,who=id {words}"));
        rows.iter().map(|row| format!("{}/{}", row["_matched"], row["city"])).collect()
    };
    assert_eq!(cities("--at sold"), ["true/\"Oslo\"", "true/\"Rome\"", "false/null", "false/null"]);
    assert_eq!(cities(""), ["true/\"Rome\"", "true/\"Rome\"", "true/\"Rome\"", "false/null"]);

    place.table("one", 1);
    let rows = place.lines("lookup one --facts facts.csv --on who=id --prefix now_");
    assert_eq!((&rows[0]["now_v"], &rows[3]["_matched"]), (&"v1".into(), &false.into()));
    assert_eq!(place.run("lookup one --facts facts.csv --on who=id --at sold").code, 1);
}

#[test]
fn columns_that_no_line_has_are_told_and_not_taken_for_null() {
    let place = Place::new();
    dimension(&place);
    place.write(
        "facts.jsonl",
        "{\"n\":1,\"t\":\"a\",\"who\":1,\"sold\":\"2025-03-01\"}\n{\"n\":2,\"t\":\"b\"}\n",
    );
    let columns = |words: &str| {
        let line =
            place.ok(&format!("lookup dim --facts facts.jsonl {words}")).lines().next().unwrap().to_owned();
        line.split('"').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(columns("--on t=tenant,who=id --at sold")[..2], ["n", "t"], "facts come as they are");
    for words in ["--on t=tenant,whom=id", "--on t=tenant,who=id --at bought"] {
        let run = place.run(&format!("lookup dim --facts facts.jsonl {words}"));
        assert_eq!((run.code, run.out.as_str()), (1, ""), "{words}");
        assert!(
            run.err.contains("facts have no such column") && run.err.contains("facts.jsonl"),
            "{}",
            run.err
        );
    }
    place.write("keys.jsonl", "{\"tenant\":\"a\",\"at\":\"2025-04-01\"}\n");
    let run = place.run("delete dim --keys keys.jsonl");
    assert!(run.code == 1 && run.err.contains("column: id") && run.err.contains("keys.jsonl"), "{}", run.err);
}

#[test]
fn no_facts_still_have_columns() {
    let place = Place::new();
    place.table("one", 1);
    place.write("facts.csv", "sale,who\n");
    assert_eq!(place.ok("lookup one --facts facts.csv --on who=id --format csv"), "sale,who,v,at,_matched\n");
    place.ok("lookup one --facts facts.csv --on who=id --output none.parquet");
    assert!(place.path("none.parquet").exists());
}
