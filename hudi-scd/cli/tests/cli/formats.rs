//! Converts every type through every format, from input to output.

use rstest::rstest;
use serde_json::{Value, json};

use crate::{Place, canonical};

const COLUMNS: &str = "id bigint, ok boolean, small int, f float, d double, money decimal(38,10), cents decimal(5,2), \
    text string, bytes binary, day date, at timestamp, clock timestamp_ntz, tags array<string>, \
    counts map<string,bigint>, place struct<city: string, zip: int, deep: array<struct<x: double>>>";

const ROWS: &str = concat!(
    r#"{"id":1,"ok":true,"small":-7,"f":0.1,"d":1e300,"money":"1234567890123456789012345678.0123456789","cents":"-0.05","#,
    r#""text":"a \"b\", c\nd","bytes":"AP8=","day":"1969-12-31","at":"2025-03-01T12:30:00.000001Z","#,
    r#""clock":"2025-03-01T12:30:00.000000Z","tags":["x",null,""],"counts":{"a":1,"b":null},"#,
    r#""place":{"city":"Köln","zip":50667,"deep":[{"x":0.5}]}}"#,
    "\n",
    r#"{"id":2,"ok":null,"small":null,"f":null,"d":null,"money":null,"cents":null,"text":null,"bytes":null,"day":null,"#,
    r#""at":null,"clock":null,"tags":null,"counts":null,"place":null}"#,
    "\n",
    r#"{"id":3,"ok":false,"small":2147483647,"f":-3.0,"d":"NaN","money":"0.0000000000","cents":"999.99","#,
    r#""text":"","bytes":"","day":"9999-12-31","at":"0001-01-01T00:00:00.000000Z","#,
    r#""clock":"1970-01-01T00:00:00.000000Z","tags":[],"counts":{},"place":{"city":null,"zip":null,"deep":null}}"#,
    "\n"
);

#[test]
fn every_type_survives_every_format() {
    let place = Place::new();
    place.write("columns.txt", COLUMNS);
    place.write("rows.jsonl", ROWS);
    let create =
        |name: &str| place.ok(&format!("create {name} --name t --record-key id --schema columns.txt"));
    create("first");
    place.ok("upsert first --input rows.jsonl");
    let expected = canonical(ROWS);
    assert_eq!(canonical(&place.ok("read first")), expected);
    for format in ["jsonl", "csv", "parquet"] {
        place.ok(&format!("read first --format {format} --output out.{format}"));
        let copy = format!("by-{format}");
        create(&copy);
        place.ok(&format!("bulk-insert {copy} --input out.{format}"));
        assert_eq!(canonical(&place.ok(&format!("read {copy}"))), expected, "{format}");
        let again = place.json(&format!("upsert first --input out.{format}"));
        assert_eq!(
            (&again["instant"], &again["unchanged"]),
            (&serde_json::Value::Null, &3.into()),
            "{format}"
        );
        place.ok(&format!("validate {copy}"));
    }
    let picture = place.ok("read first --format table --columns id,cents");
    assert!(picture.contains("│ 1  ┆ -0.05  │"), "{picture}");
}

#[test]
fn a_table_may_be_like_a_file() {
    let place = Place::new();
    place.write(
        "a.csv",
        "id,zip,price,born,at,ok\n1,00501,1.5,2000-01-31,2025-01-01T00:00:00Z,true\n2,10001,2,,,\n",
    );
    place.ok("create a --name a --record-key id --ordering-field id --like a.csv");
    place.ok("upsert a --input a.csv");
    let first = r#"{"id":1,"zip":"00501","price":1.5,"born":"2000-01-31","at":"2025-01-01T00:00:00.000000Z","ok":true}"#;
    assert_eq!(place.ok("read a --limit 1").trim(), first);
    // The same columns from Parquet, and from an Avro schema.
    place.ok("read a --output a.parquet");
    place.ok("create b --name b --record-key id --like a.parquet");
    place.ok("insert b --input a.parquet");
    assert_eq!(place.ok("read b"), place.ok("read a"));
    let avro = r#"{"type":"record","name":"r","fields":[{"name":"id","type":"long"},{"name":"zip","type":["null","string"]}]}"#;
    place.write("c.avsc", avro);
    place.ok("create c --name c --record-key id --schema c.avsc");
}

#[test]
fn a_folder_is_read_file_by_file() {
    let place = Place::new();
    place.table("t", 0);
    place.write("in/1.jsonl", "{\"id\":1,\"v\":\"a\",\"at\":1}\n\n{\"id\":2,\"at\":1}\n");
    place.write("in/deep/2.csv", "v,id,at\n\"c\r\nd\",3,1\r\n,4,1\r\n");
    for other in ["in/_SUCCESS", "in/.1.jsonl.crc", "in/notes.txt"] {
        place.write(other, "nothing to read");
    }
    let report = place.json("upsert t --input in");
    assert_eq!((&report["rows"], &report["inserted"]), (&4.into(), &4.into()));
    assert_eq!(place.ok("read t --format csv --columns id,v"), "id,v\n1,a\n2,\n3,\"c\r\nd\"\n4,\n");
}

#[rstest]
#[case("x.jsonl", "{\"id\":2,\"v\":null,\"at\":1,\"n\":null}\n")]
#[case("x.csv", "id,v,at,n\n2,,1,\n")]
fn a_new_column_without_a_value_gets_no_type_for_ever(#[case] name: &str, #[case] content: &str) {
    let place = Place::new();
    place.table("t", 1);
    place.write(name, content);
    place.ok(&format!("upsert t --input {name}"));
    assert_eq!(place.lines("read t").last().unwrap(), &json!({"id": 2, "v": null, "at": 1}));
    place.write("y.jsonl", "{\"id\":2,\"at\":2,\"n\":7}\n");
    place.ok("upsert t --input y.jsonl");
    assert_eq!(place.lines("read t").last().unwrap(), &json!({"id": 2, "v": null, "at": 2, "n": 7}));
    // A fact keeps its columns, whatever their values are.
    let found = place.lines(&format!("lookup t --facts {name} --on id=id --prefix d_"));
    assert_eq!(found[0]["n"], Value::Null);
    assert!(found[0].as_object().unwrap().contains_key("n"), "{found:?}");
}

#[test]
fn a_delete_marker_is_boolean_even_after_a_file_in_which_it_said_nothing() {
    let place = Place::new();
    place.table("t", 1);
    place.write("a.jsonl", "{\"id\":2,\"at\":1,\"_hoodie_is_deleted\":null}\n");
    place.ok("upsert t --input a.jsonl");
    place.write("b.csv", "id,v,at,_hoodie_is_deleted\n2,,2,1\n");
    let report = place.json("upsert t --input b.csv");
    assert_eq!(report["deleted"], 1, "{report}");
}

#[test]
fn a_line_may_leave_out_what_another_file_of_the_folder_brought() {
    let place = Place::new();
    place.table("t", 0);
    place.write("in/a.jsonl", "{\"id\":1,\"at\":1,\"n\":5}\n");
    place.write("in/b.jsonl", "{\"id\":2,\"at\":1}\n");
    place.ok("upsert t --input in");
    let rows = place.lines("read t --columns id,n");
    assert_eq!(rows, [json!({"id": 1, "n": 5}), json!({"id": 2, "n": null})]);
}

#[test]
fn a_new_column_joins_the_table_under_the_type_of_its_values() {
    let place = Place::new();
    place.table("t", 1);
    place.write("new.jsonl", "{\"id\":2,\"v\":\"x\",\"at\":1,\"z\":1,\"a\":{\"n\":1}}\n{\"id\":3,\"v\":\"x\",\"at\":1,\"z\":1.5}\n");
    place.ok("upsert t --input new.jsonl");
    let rows = place.ok("read t");
    assert_eq!(rows.lines().next().unwrap(), r#"{"id":1,"v":"v1","at":1,"z":null,"a":null}"#);
    assert_eq!(rows.lines().nth(1).unwrap(), r#"{"id":2,"v":"x","at":1,"z":1.0,"a":{"n":1}}"#);
    // The types are given if the values do not determine them.
    place.write("more.txt", "price decimal(10,2)");
    place.write("more.csv", "id,v,at,z,a,price\n4,x,1,,,1.5\n");
    place.ok("upsert t --input more.csv --schema more.txt");
    assert!(place.ok("read t --columns price").contains(r#"{"price":"1.50"}"#));
}

#[test]
fn rows_that_changed_are_those_after_since_up_to_until() {
    let place = Place::new();
    place.table("t", 3);
    let commits = place.commits("t");
    let values = |words: &str| -> Vec<String> {
        let rows = place.lines(&format!("read t {words}"));
        rows.iter().map(|row| row["v"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(values(&format!("--since {} --until {}", commits[1], commits[2])), ["v3"]);
    assert_eq!(values(&format!("--since {}", commits[2])), [""; 0]);
    assert_eq!(values(&format!("--as-of {}", commits[1])), ["v2"]);
    // The same instant as a time.
    let (c, rest) = (&commits[1], ".");
    let time = format!(
        "{}-{}-{}T{}:{}:{}{rest}{}Z",
        &c[..4],
        &c[4..6],
        &c[6..8],
        &c[8..10],
        &c[10..12],
        &c[12..14],
        &c[14..]
    );
    assert_eq!(values(&format!("--as-of {time}")), ["v2"]);
}
