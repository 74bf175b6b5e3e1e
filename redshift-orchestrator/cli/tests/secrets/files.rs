//! Checks that errors in pipeline files contain the position but no SQL.

use redshift_orchestrator::Pipeline;

use crate::search;

const GOOD: &str = r#"
name = "p"
[parameters.pin]
secret = true
[[steps]]
name = "a"
sql = "UPDATE t SET a = 'sesame', b = :pin"
parameters = { pin = "${pin}" }
[[steps]]
name = "b"
batch = ["SELECT 'sesame' AS one", "SELECT 'sesame' AS two"]
"#;

#[test]
fn errors_in_files_contain_no_sql() {
    assert!(Pipeline::from_toml(GOOD).is_ok());
    let replace = |from: &str, to: &str| {
        assert!(GOOD.contains(from), "{from}");
        GOOD.replacen(from, to, 1)
    };
    for broken in [
        replace(
            "sql = \"UPDATE t SET a = 'sesame', b = :pin\"",
            "batch = \"UPDATE t SET a = 'sesame', b = :pin\"",
        ),
        replace("sql = \"UPDATE", "timeout = \"SELECT 'sesame'\"\nsql = \"UPDATE"),
        replace("sql = \"UPDATE t SET", "sql = \"UPDATE t SET \"sesame\" "),
        replace("b = :pin\"", "b = :pin, c = :other\""),
        replace("b = :pin\"", "b = :pin, c = ${other}\""),
        replace("b = :pin\"", "b = :pin"),
        replace("secret = true", "secret = \"sesame\""),
        replace("secret = true", "default = [\"sesame\"]"),
        replace("secret = true", "secret = true\ndefault = \"sesame\""),
        replace("[\"SELECT 'sesame' AS one\",", "[\"SELECT 'sesame' AS one\", [\"sesame\"],"),
        replace("[\"SELECT 'sesame' AS one\",", "[\"TRUNCATE sesame\","),
        replace("name = \"p\"", "name = \"p\"\nconcurrency = \"SELECT 'sesame'\""),
    ] {
        let error = Pipeline::from_toml(&broken).unwrap_err();
        search("an error in a file", format!("{error} {error:?}"));
        if let Ok(value) = toml::from_str::<serde_json::Value>(&broken) {
            let error = Pipeline::from_json(&value.to_string()).unwrap_err();
            search("an error in a JSON file", format!("{error} {error:?}"));
        }
    }
}
