//! Format of pipeline files, and errors for invalid files.

use redshift_orchestrator::{
    Error, ErrorKind, ExecutionMode, Pipeline, Run,
    pipeline::{Piece, Step, StepStatement, StepWork, TemplateText},
    task::TaskWork,
};

fn error(text: &str) -> Error {
    let error = Pipeline::from_toml(text).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Definition);
    error
}

#[test]
fn an_error_in_a_file_names_line_step_and_way_out() {
    let step = |lines: &str| format!("name = \"p\"\n\n[[steps]]\nname = \"a\"\nsql = \"SELECT 1\"\n{lines}");
    let two = |one: &str, other: &str| {
        format!(
            "name = \"p\"\n[[steps]]\nname = \"a\"\nsql = \"SELECT 1\"\n{one}\n[[steps]]\nname = \"b\"\nsql = \"SELECT 2\"\n{other}"
        )
    };
    let cases = [
        ("an unknown key", step("tiemout = \"2m\"")),
        ("an unknown key of the pipeline", "name = \"p\"\nconcurency = 3\n".to_owned()),
        ("a bad duration", step("timeout = \"2 fortnights\"")),
        ("an unknown failure kind", step("retry = { attempts = 2, on = [\"serialisation-conflict\"] }")),
        ("an unknown dependency", two("", "after = [\n  \"a\",\n  \"aa\",\n]")),
        ("a number below zero", "name = \"p\"\nconcurrency = -1\n".to_owned()),
        ("a character that no database accepts", step("").replace("SELECT 1", "SELECT '\\u0000'")),
        ("a circle", two("after = [\"b\"]", "after = [\"a\"]")),
        ("a step that waits for itself", step("after = [\"a\"]")),
        ("a dependency named twice", two("", "after = [\"a\", \"a\"]")),
        ("a name used twice", two("", "").replace("\"b\"", "\"a\"")),
        ("a placeholder without a value", step("").replace("SELECT 1", "SELECT :cycle")),
        (
            "a dependency that the SQL names, too",
            two("", "after = [\"aa\"]").replace("SELECT 2", "SELECT aa"),
        ),
        ("a parameter that nothing uses", format!("{}\n[parameters.cycle]", step(""))),
        ("a secret with a default", format!("{}\n[parameters.key]\nsecret = true\ndefault = 1", step(""))),
        ("a tag given twice", step("tags = [\"x\", \"x\"]")),
        ("a bad value after the steps", format!("{}\n[parameters.key]\nsecret = 7", step(""))),
        ("a retry in a table of its own", step("[steps.retry]\nattempts = 3\nonn = [\"sql\"]")),
        ("a step without a name", "name = \"p\"\n[[steps]]\nsql = \"SELECT 1\"\n".to_owned()),
        (
            "a target of both kinds",
            format!("{}\n[target]\ncluster = \"a\"\nworkgroup = \"b\"\ndatabase = \"c\"", step("")),
        ),
        ("a target without a database", format!("{}\n[target]\ncluster = \"a\"", step(""))),
        ("no steps", "name = \"p\"\n".to_owned()),
        ("nothing to run", "name = \"p\"\n[[steps]]\nname = \"a\"\n".to_owned()),
        ("two things to run", step("call = \"load()\"")),
        ("an undeclared parameter", step("").replace("SELECT 1", "SELECT ${cycle}")),
        ("a value without a place", step("parameters = { cycle = 7 }")),
        ("a retry without failures", step("retry = { attempts = 3 }")),
        ("an empty statement", step("").replace("SELECT 1", " ")),
        ("a statement of comments only", step("").replace("SELECT 1", "-- later")),
        ("two statements as one", step("").replace("SELECT 1", "SELECT 1; SELECT 2")),
        (
            "two statements as one of a batch",
            "name = \"p\"\n[[steps]]\nname = \"a\"\nbatch = [\"SELECT 1\", \"SELECT 2; SELECT 3\"]\n"
                .to_owned(),
        ),
        (
            "a call with its word",
            "name = \"p\"\n[[steps]]\nname = \"a\"\ncall = \"CALL load()\"\n".to_owned(),
        ),
        ("a call of two", "name = \"p\"\n[[steps]]\nname = \"a\"\ncall = \"load(); done()\"\n".to_owned()),
        ("a call of nothing", "name = \"p\"\n[[steps]]\nname = \"a\"\ncall = \"(1)\"\n".to_owned()),
        ("an empty value", step("parameters = { a = \"\" }").replace("SELECT 1", "SELECT :a")),
        ("one name instead of a list", two("", "after = \"a\"")),
        ("a number instead of a duration", step("timeout = 30")),
        ("JSON instead of TOML", "{\"name\": \"p\"}".to_owned()),
        ("an execution mode of one statement", step("execution_mode = \"auto-commit\"")),
        ("an empty batch", "name = \"p\"\n[[steps]]\nname = \"a\"\nbatch = []\n".to_owned()),
        ("a file in a text", "name = \"p\"\n[[steps]]\nname = \"a\"\nfile = \"a.sql\"\n".to_owned()),
        ("no concurrency", "name = \"p\"\nconcurrency = 0\n".to_owned()),
        ("no TOML", "name = \"p\n".to_owned()),
    ];
    let printed: Vec<_> = cases.iter().map(|(what, text)| format!("{what}\n  {}", error(text))).collect();
    insta::assert_snapshot!(printed.join("\n"));
}

#[test]
fn an_error_in_a_task_names_line_step_and_way_out() {
    let glue = |content: &str| format!("name = \"p\"\n\n[[steps]]\nname = \"a\"\n[steps.glue]\n{content}\n");
    let hudi = |content: &str| format!("name = \"p\"\n\n[[steps]]\nname = \"a\"\nhudi = {{ {content} }}\n");
    let files = "files = [\"s3://raw/a.csv\"]";
    let cases = [
        ("a job and a table", glue("job = \"clean\"") + "[steps.hudi]\ntable = \"t\"\n" + files),
        ("a job and SQL", hudi("table = \"t\", files = [\"x\"]") + "sql = \"SELECT 1\"\n"),
        ("an unknown key of a job", glue("jobb = \"clean\"")),
        ("a job without a name", glue("job = \"\"")),
        ("an argument without dashes", glue("job = \"clean\"\narguments = { day = 7 }")),
        (
            "the argument of the orchestrator",
            glue("job = \"clean\"\n[steps.glue.arguments]\n\"--run-token\" = 7"),
        ),
        ("an undeclared parameter", glue("job = \"clean\"\narguments = { \"--day\" = \"${day}\" }")),
        (
            "a secret argument",
            glue("job = \"clean\"\narguments = { \"--key\" = \"${key}\" }")
                + "[parameters.key]\nsecret = true",
        ),
        ("placeholders of a job", glue("job = \"clean\"\n[steps.parameters]\nday = 7")),
        ("a table that is a path", hudi(&format!("table = \"lake/customer\", {files}"))),
        ("a table without files", hudi("table = \"customer\", files = []")),
        ("a file without a URL", hudi("table = \"customer\", files = [\"\"]")),
        ("a table that commits", hudi(&format!("table = \"customer\", {files}")) + "commits = true"),
        (
            "a table with an execution mode",
            hudi(&format!("table = \"customer\", {files}")) + "execution_mode = \"auto-commit\"",
        ),
    ];
    let printed: Vec<_> = cases.iter().map(|(what, text)| format!("{what}\n  {}", error(text))).collect();
    insta::assert_snapshot!(printed.join("\n"));
}

#[test]
fn the_values_of_a_task_are_checked_with_the_run() {
    let text = "name = \"p\"\n[parameters.table]\n[parameters.file]\ndefault = \"a b'.csv\"\n[[steps]]\nname = \"a\"\n\
                hudi = { table = \"${table}\", files = [\"s3://raw/${file}\"] }\n";
    let pipeline = Pipeline::from_toml(text).unwrap();
    let rendered = |table: &str| pipeline.rendered(&Run::new("r").with_parameter("table", table));
    let StepWork::Task(TaskWork::Hudi(upsert)) = rendered("customer").unwrap().remove(0) else { panic!() };
    assert_eq!((upsert.table.as_str(), upsert.files[0].as_str()), ("customer", "s3://raw/a b'.csv"));
    let refused = rendered("../customer").unwrap_err();
    assert!(refused.to_string().contains("letters, digits, `_` and `-`"), "{refused}");
    assert!(pipeline.statements(&Run::new("r").with_parameter("table", "customer")).unwrap().is_empty());
    let debug = format!("{:?} {pipeline:?}", pipeline.template().steps()[0].task);
    assert!(!debug.contains("raw"), "{debug}");
}

#[test]
fn a_long_cycle_is_shortened_in_the_error() {
    let step = |number: usize| {
        format!(
            "[[steps]]\nname = \"s{number}\"\nsql = \"SELECT 1\"\nafter = [\"s{}\"]\n",
            (number + 99) % 100
        )
    };
    let steps: String = (0..100).map(step).collect();
    let text = error(&format!("name = \"p\"\n{steps}")).to_string();
    assert!(text.contains(" -> … -> ") && text.len() < 300, "{text}");
}

#[test]
fn json_and_toml_define_the_same_pipeline() {
    let toml = Pipeline::from_toml(include_str!("../data/cycle.toml")).unwrap();
    let value: toml::Value = toml::from_str(include_str!("../data/cycle.toml")).unwrap();
    let text = serde_json::to_string_pretty(&value).unwrap();
    let json = Pipeline::from_json(&text).unwrap();
    assert_eq!(toml.steps(), json.steps());
    let broken = text.replace("\"dim-item\"\n", "\"dim-itm\"\n");
    let error = Pipeline::from_json(&broken).unwrap_err();
    assert!(error.to_string().contains("did you mean `dim-item`?"), "{error}");
    let line = |text: &str, part: &str| text.lines().position(|line| line.contains(part)).unwrap() + 1;
    assert_eq!(error.context("line"), Some(&*line(&broken, "\"dim-itm\"").to_string()), "{error}");
    let error = Pipeline::from_json(&text.replace("\"retry\"", "\"retri\"")).unwrap_err();
    assert!(
        error.to_string().contains("did you mean `retry`?") && error.context("line").is_some(),
        "{error}"
    );
}

#[test]
fn a_sql_file_is_one_statement_or_a_batch() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
    write("one.sql", "-- loads\nCALL load();\n");
    write("two.sql", "DELETE FROM t;\nINSERT INTO t SELECT 1;\n");
    write(
        "p.toml",
        "name = \"p\"\n[[steps]]\nname = \"one\"\nfile = \"one.sql\"\n[[steps]]\nname = \"two\"\nfile = \"two.sql\"\n",
    );
    let pipeline = Pipeline::from_toml_file(directory.path().join("p.toml")).unwrap();
    assert!(
        matches!(pipeline.steps()[0].statement(), Some(StepStatement::Sql(sql)) if sql.ends_with("CALL load()"))
    );
    assert!(
        matches!(pipeline.steps()[1].statement(), Some(StepStatement::Batch(sqls, ExecutionMode::Transaction)) if sqls.len() == 2)
    );
    write("p.toml", "name = \"p\"\n[[steps]]\nname = \"gone\"\nfile = \"gone.sql\"\n");
    let error = Pipeline::from_toml_file(directory.path().join("p.toml")).unwrap_err().to_string();
    assert!(error.contains("`gone.sql` cannot be read") && error.contains("line: 4"), "{error}");
    assert!(error.contains("p.toml"), "{error}");
}

#[test]
fn parameters_are_separate_from_the_sql() {
    let pipeline = Pipeline::builder("p")
        .with_parameter("who", None)
        .with_parameter("schema", Some("mystore"))
        .with_step(Step::call("greet", "${schema}.greet(:who)").with_parameter("who", "dear ${who}"))
        .build()
        .unwrap();
    let run = Run::new("r").with_parameter("who", "O'Brien; DROP TABLE t");
    let statement = pipeline.statements(&run).unwrap().remove(0);
    assert_eq!(statement.sqls(), ["CALL mystore.greet(:who)"]);
    assert_eq!(statement.parameters()[0].value, "dear O'Brien; DROP TABLE t");

    let refused = |run: Run| pipeline.statements(&run).unwrap_err().to_string();
    assert!(refused(Run::new("r")).contains("the run does not set the parameter `who`"));
    let text = refused(Run::new("r").with_parameter("who", "x").with_parameter("schema", "a; DROP TABLE t"));
    assert!(text.contains("is not allowed in SQL"), "{text}");
    let text = refused(Run::new("r").with_parameter("whom", "x"));
    assert!(text.contains("did you mean `who`?"), "{text}");
}

/// Generates a template for another system, with `<name>` in place of each parameter.
fn generated(text: &TemplateText) -> String {
    let piece = |piece: &Piece| match piece {
        Piece::Literal(text) => text.clone(),
        Piece::Parameter(name) => format!("<{name}>"),
    };
    text.pieces().iter().map(piece).collect()
}

#[test]
fn a_template_contains_the_pipeline_without_values() {
    let pipeline = Pipeline::from_toml(include_str!("../data/cycle.toml")).unwrap();
    let template = pipeline.template();
    let described: Vec<_> = template
        .steps()
        .iter()
        .map(|step| {
            let values: Vec<_> = step
                .parameters
                .iter()
                .map(|parameter| format!("{} = {}", parameter.name, generated(&parameter.value)))
                .collect();
            let sqls: Vec<_> = step.sqls.iter().map(generated).collect();
            format!(
                "{}: {sqls:?} {values:?} {:?} after {:?} timeout {:?} attempts {:?} on_failure {:?}",
                step.step.name(),
                step.execution_mode,
                step.step.dependencies(),
                step.step.timeout(),
                step.step.retry().map(|retry| retry.attempts()),
                step.step.on_failure(),
            )
        })
        .collect();
    insta::assert_snapshot!(described.join("\n"));
    assert!(template.is_in_sql("schema") && !template.is_in_sql("cycle"));
}

#[test]
fn a_template_with_values_gives_the_statements_of_a_run() {
    let pipeline = Pipeline::builder("p")
        .with_parameter("cycle", None)
        .with_parameter("schema", Some("mystore"))
        .with_secret_parameter("key")
        .with_step(
            Step::sql("one", "SELECT $$ ${schema} $${cycle} ${open, :key")
                .with_parameter("key", "k=${key}, $${cycle}"),
        )
        .with_step(Step::call("call", "${schema}.load"))
        .with_step(Step::batch("some", ["DELETE FROM t_${cycle}", "ANALYZE t"], ExecutionMode::AutoCommit))
        .build()
        .unwrap();
    let values = [("cycle", "7"), ("schema", "lake"), ("key", "p w")];
    let filled = |text: &TemplateText| {
        values.iter().fold(generated(text), |text, (name, value)| text.replace(&format!("<{name}>"), value))
    };
    let run = values.iter().fold(Run::new("r"), |run, (name, value)| run.with_parameter(*name, *value));
    let statements = pipeline.statements(&run).unwrap();
    let expected: [&[&str]; 3] =
        [&["SELECT $$ lake $7 ${open, :key"], &["CALL lake.load()"], &["DELETE FROM t_7", "ANALYZE t"]];
    for ((step, statement), expected) in pipeline.template().steps().iter().zip(&statements).zip(expected) {
        assert_eq!(statement.sqls(), expected);
        assert_eq!(step.sqls.iter().map(filled).collect::<Vec<_>>(), expected);
        assert_eq!(statement.execution_mode(), step.execution_mode);
        let names: Vec<_> = step.parameters.iter().map(|parameter| &parameter.name).collect();
        let texts: Vec<_> = step.parameters.iter().map(|parameter| filled(&parameter.value)).collect();
        assert_eq!(statement.parameters().iter().map(|it| &it.name).collect::<Vec<_>>(), names);
        assert_eq!(
            statement.parameters().iter().map(|it| &it.value).collect::<Vec<_>>(),
            texts.iter().collect::<Vec<_>>()
        );
    }
    assert_eq!(statements[0].parameters()[0].value, "k=p w, $7");
    assert!(pipeline.is_secret("key") && !pipeline.is_secret("cycle"));

    let error = pipeline.template().steps()[0].render(&std::collections::BTreeMap::new()).unwrap_err();
    assert!(error.to_string().contains("the parameter `schema` has no value"), "{error}");
}

#[test]
fn debug_and_plan_show_no_sql_and_no_values() {
    let pipeline = Pipeline::builder("p")
        .with_step(Step::sql("a", "SELECT 'classified' WHERE 1 = :x").with_parameter("x", "secret"))
        .build()
        .unwrap();
    let printed = format!("{pipeline:?} {:?} {}", pipeline.template(), pipeline.plan());
    assert!(!printed.contains("classified") && !printed.contains("secret"), "{printed}");
}

#[test]
fn values_keep_their_text() {
    let step = |value: &str| {
        format!("name = \"p\"\n[[steps]]\nname = \"a\"\nsql = \"SELECT :v\"\nparameters = {{ v = {value} }}")
    };
    for (written, value) in [
        ("\"x\"", "x"),
        ("7", "7"),
        ("-9223372036854775808", "-9223372036854775808"),
        ("1.25", "1.25"),
        ("true", "true"),
        ("2025-03-01", "2025-03-01"),
        ("2025-03-01T06:30:00Z", "2025-03-01T06:30:00Z"),
        ("06:30:00", "06:30:00"),
    ] {
        let pipeline = Pipeline::from_toml(&step(written)).unwrap();
        assert_eq!(pipeline.steps()[0].parameters()[0].value, value);
    }
    let json = |value: &str| {
        let text = r#"{"name": "p", "steps": [{"name": "a", "sql": "SELECT :v", "parameters": {"v": V}}]}"#;
        Pipeline::from_json(&text.replace('V', value))
    };
    assert_eq!(
        json("18446744073709551615").unwrap().steps()[0].parameters()[0].value,
        "18446744073709551615"
    );
    let error = json("18446744073709551616").unwrap_err().to_string();
    assert!(error.contains("too large to be read exactly"), "{error}");
    assert!(error_of(&step("nan")).contains("too large") && error_of(&step("[1]")).contains("a date"));
}

fn error_of(text: &str) -> String {
    error(text).to_string()
}

#[test]
fn a_byte_order_mark_is_ignored() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        std::fs::write(directory.path().join(name), format!("\u{feff}{text}")).unwrap()
    };
    write("a.sql", "SELECT 1;");
    write("p.toml", "name = \"p\"\n[[steps]]\nname = \"a\"\nfile = \"a.sql\"\n");
    write("p.json", r#"{"name": "p", "steps": [{"name": "a", "file": "a.sql"}]}"#);
    let toml = Pipeline::from_toml_file(directory.path().join("p.toml")).unwrap();
    let json = Pipeline::from_json_file(directory.path().join("p.json")).unwrap();
    assert_eq!(toml.steps()[0].work().sqls(), ["SELECT 1"]);
    assert_eq!(toml.steps(), json.steps());
}
