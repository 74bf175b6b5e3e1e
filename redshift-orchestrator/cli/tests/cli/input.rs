//! Tests of invalid input, which must lead to one message and the documented exit code, without a submit.

use crate::support::{PIPELINE, Stage};

/// A Glue job, a Hudi table, and a statement.
const LAKE: &str = r#"
name = "lake"
[[steps]]
name = "clean"
glue = { job = "clean-customer", arguments = { "--day" = 7 } }
tags = ["lake"]
[[steps]]
name = "address"
hudi = { table = "address", files = ["s3://raw/a.csv", "s3://raw/b.csv"] }
tags = ["lake"]
[[steps]]
name = "load"
sql = "UPDATE one SET classified = 1"
after = ["clean", "address"]
tags = ["warehouse"]
"#;

#[test]
fn a_plan_has_jobs_and_tables_and_a_part_without_them_runs() {
    let stage = Stage::new(LAKE, "");
    let plan = stage.call(&["plan", "load.toml", "--show-sql"]);
    for line in ["clean    Glue job clean-customer", "address  Hudi table address, 2 files", "-- load"] {
        assert!(plan.out.contains(line), "{}", plan.out);
    }
    assert!(!plan.out.contains("-- clean"), "{}", plan.out);
    assert_eq!(stage.call(&["validate", "load.toml"]).code, Some(0));
    let done = stage.call(&["run", "load.toml", "--tags", "warehouse"]);
    assert_eq!(done.code, Some(0), "{done:?}");
}

#[test]
fn invalid_input_is_one_message_and_exit_code_2() {
    let stage = Stage::without_emulator(PIPELINE);
    stage.write("unknown_key.toml", &PIPELINE.replace("after", "aftr"));
    stage.write("circle.toml", &PIPELINE.replace("tags = [\"first\"]", "after = [\"three\"]"));
    stage.write("not.json", "{\"name\": ");
    stage.write("lake.toml", LAKE);
    stage.write("letters.toml", "\u{fffd}\0");
    for (arguments, part) in [
        (&["run", "gone.toml"][..], "file: gone.toml"),
        (
            &["run", "unknown_key.toml"],
            "did you mean `after`? { step: two, line: 12, file: unknown_key.toml }",
        ),
        (&["validate", "circle.toml"], "the steps wait for each other"),
        (&["validate", "not.json"], "line: 1"),
        (&["validate", "letters.toml"], "line: 1"),
        (&["run", "lake.toml"], "the step is of the kind `hudi`, and this program has no Hudi"),
        (&["run", "load.toml"], "does not set the parameter `cycle`"),
        (&["run", "load.toml", "-p", "cycle=1", "-p", "day=2"], "no parameter `day`"),
        (&["run", "load.toml", "-p", "cycle="], "is empty"),
        (&["run", "load.toml", "-p", "cycle"], "NAME=VALUE"),
        (&["run", "load.toml", "-p", "cycle=1", "--tags", "frist"], "no step has the tag `frist`"),
        (&["plan", "load.toml", "--only", "four"], "the pipeline has no step `four`"),
        (&["run", "load.toml", "-p", "cycle=1", "--report", "r.pdf"], ".json, .txt, .svg or .html"),
        (
            &["run", "load.toml", "-p", "cycle=1", "--report", "none/r.svg"],
            "the directory for the report does not exist",
        ),
        (&["run", "load.toml", "-p", "cycle=1"], "the target database is missing"),
        (&["run", "load.toml", "-p", "cycle=1", "--database", "d", "--workgroup", "w"], "no AWS region"),
        (
            &["run", "load.toml", "-p", "cycle=1", "--postgres", "nonsense"],
            "not a valid URL of a PostgreSQL server",
        ),
        (&["run", "load.toml", "-p", "cycle=1", "--journal", "ftp://x"], "s3://BUCKET/PREFIX"),
        (&["run", "load.toml", "-p", "cycle=1", "--run-id", ""], "1 to 200 characters"),
        (&["run", "load.toml", "-p", "cycle=1", "--endpoint-url", "127.0.0.1:8192"], "http://127.0.0.1:8192"),
        (&["resume", "other.toml"], "other.toml"),
        (&["status", "other.toml"], "there is no journal"),
        (&["status"], "PIPELINE"),
        (
            &["settle", "load.toml", "one", "--run-id", "a", "--as", "done", "--because", "x"],
            "possible values",
        ),
        (
            &["settle", "load.toml", "one", "--run-id", "a", "--as", "finished", "--because", " "],
            "a text that is not empty",
        ),
        (&["run", "load.toml", "-p", "cycle=1", "--service-name", ""], "a text that is not empty"),
        (&["status", "load.toml", "--limit", "0"], "--limit"),
        (&["danced"], "unrecognized subcommand"),
    ] {
        let done = stage.call(arguments);
        assert_eq!(done.code, Some(2), "{arguments:?}: {done:?}");
        assert!(done.err.contains(part), "{arguments:?}: {}", done.err);
        assert_eq!(done.out, "", "{arguments:?}");
    }
}

#[test]
fn an_unusable_service_or_journal_is_exit_code_5() {
    let stage = Stage::without_emulator(PIPELINE);
    let run = ["run", "load.toml", "-p", "cycle=1"];
    let away = [&run[..], &["--postgres", "postgresql://nobody@127.0.0.1:1/none"]].concat();
    let done = stage.call(&away);
    assert_eq!(done.code, Some(5), "{done:?}");
    assert!(done.err.contains("database unreachable"), "{}", done.err);
    assert!(done.err.contains("host: 127.0.0.1:1 }"), "{}", done.err);
    stage.write("load.toml.journal", "{}\n");
    let done = stage.call(&away);
    assert_eq!(done.code, Some(5));
    assert!(done.err.contains("journal: load.toml.journal, line: 1"), "{}", done.err);
    let nobody = [
        &run[..],
        &["--endpoint-url", "http://127.0.0.1:1", "--retry-timeout", "1s", "--journal", "other.journal"],
    ];
    let done = stage.call(&nobody.concat());
    assert_eq!(done.code, Some(1), "the step is known not to have been submitted: {done:?}");
    assert!(done.out.contains("not submitted"), "{}", done.out);
    // Both the report and the log contain the endpoint and the cause.
    for said in [&done.out, &done.err] {
        assert!(said.contains("endpoint: http://127.0.0.1:1") && said.contains("refused"), "{said}");
    }
}

#[test]
fn missing_credentials_fail_at_once_and_an_emulator_needs_none() {
    let stage = Stage::without_emulator(PIPELINE);
    let run = ["run", "load.toml", "-p", "cycle=1"];
    let service = ["--region", "eu-west-1", "--cluster", "dwh", "--database", "dev"];
    let done = stage.call_without_credentials(&[&run[..], &service].concat());
    assert_eq!(done.code, Some(5), "{done:?}");
    assert!(
        done.err.contains("there are no AWS credentials") && done.err.contains("--profile"),
        "{}",
        done.err
    );
    let done = stage.call_without_credentials(&[&run[..], &service, &["--profile", "gone"]].concat());
    assert_eq!(done.code, Some(5), "{done:?}");
    let stage = Stage::new(PIPELINE, "");
    assert_eq!(stage.call_without_credentials(&run).code, Some(0));
}

#[test]
fn help_names_every_exit_code() {
    let help = Stage::without_emulator(PIPELINE).call(&["--help"]);
    assert_eq!(help.code, Some(0));
    for code in ["  0 ", "  1 ", "  2 ", "  3 ", "  4 ", "  5 ", "  130 "] {
        assert!(help.out.contains(code), "{}", help.out);
    }
}

#[test]
fn the_plan_is_a_table_an_object_or_a_chart() {
    let stage = Stage::without_emulator(PIPELINE);
    let plan = stage.call(&["plan", "load.toml", "--tags", "first"]);
    assert!(
        plan.out.contains("1 of 3 steps") && plan.out.contains("not selected; after one"),
        "{}",
        plan.out
    );
    let plan = stage.call(&["plan", "load.toml", "--format", "json"]).objects().remove(0);
    assert_eq!((&plan["steps"][2]["level"], &plan["parameters"][0]["required"]), (&3.into(), &true.into()));
    let plan = stage.call(&["plan", "load.toml", "--format", "mermaid", "--only", "two"]);
    assert!(plan.out.starts_with("flowchart LR\n") && plan.out.contains("s0 --> s1"), "{}", plan.out);
    let valid = stage.call(&["validate", "load.toml"]);
    assert_eq!((valid.code, valid.out.as_str()), (Some(0), "row: 3 steps, no problems found\n"));
}
