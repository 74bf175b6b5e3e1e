//! The handler `statement` with the emulator. Each event has its own process, because a function keeps no
//! state between two invocations.

use std::time::Duration;

use redshift_data_emulator::Emulator;
use redshift_data_local::{LocalExecutor, Script, Scripted, ScriptedExecution};
use redshift_orchestrator::{Column, Field};
use serde_json::{Value, json};

use super::{Played, Posted, play, service};

type Service = LocalExecutor<Scripted>;

/// A function, and the emulator that it calls.
struct Function {
    service: Service,
    endpoint: String,
}

impl Function {
    async fn over(script: Script) -> Self {
        let service = LocalExecutor::scripted(script);
        let emulator = Emulator::new(service.clone()).bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let endpoint = emulator.url();
        tokio::spawn(emulator.serve_until(std::future::pending()));
        Self { service, endpoint }
    }

    async fn play(&self, events: &[String]) -> Played {
        let variables = [
            ("SFN_ADAPTER_HANDLER", "statement"),
            ("AWS_ENDPOINT_URL_REDSHIFT_DATA", self.endpoint.as_str()),
            ("PROCEDURE", ""),
            ("SCHEMA", ""),
        ];
        play(&variables, events, service).await
    }

    async fn ask(&self, event: Value) -> Posted {
        self.play(&[event.to_string()]).await.posted.remove(0)
    }

    async fn reply(&self, event: Value) -> Value {
        let (what, body) = self.ask(event).await;
        assert_eq!(what, "response", "{body}");
        body
    }
}

fn submit(step: &str, attempt: u32) -> Value {
    json!({
        "version": 1, "action": "submit",
        "identity": { "execution": "arn:aws:states:eu-west-1:1:execution:load:7f3a", "redrive": 0, "step": step, "attempt": attempt },
        "call": "mystore.load_sales(:cycle)", "parameters": { "cycle": "classified" },
    })
}

fn about(action: &str, id: &Value) -> Value {
    json!({ "version": 1, "action": action, "id": id })
}

#[tokio::test]
async fn a_retried_submit_runs_the_procedure_once_and_the_wait_sees_its_end() {
    let short = ScriptedExecution::finished(Duration::from_millis(300));
    let function = Function::over(Script::new().otherwise(short)).await;
    let first = function.reply(submit("sales", 1)).await;
    let again = function.reply(submit("sales", 1)).await;
    assert_eq!(first["id"], again["id"]);
    let another = function.reply(submit("sales", 2)).await;
    assert_ne!(first["id"], another["id"]);

    for id in [&first["id"], &another["id"]] {
        let ended = function.reply(about("wait", id)).await;
        assert_eq!((&ended["outcome"], &ended["terminal"]), (&json!("succeeded"), &json!(true)), "{ended}");
        assert_eq!((&ended["error"], &ended["cause"]), (&Value::Null, &Value::Null));
    }
    assert_eq!(function.service.effects().len(), 2);
    assert_eq!(function.service.effect_count("7f3a/0/sales/1"), 1);

    let late = function.reply(about("cancel", &first["id"])).await;
    assert_eq!(late["outcome"], "succeeded", "a cancellation that is too late is no error");
}

#[tokio::test]
async fn a_failure_has_the_text_of_the_database() {
    let text = "ERROR: 1023 Serializable isolation violation on table";
    let function =
        Function::over(Script::new().otherwise(ScriptedExecution::failed(Duration::ZERO, text))).await;
    let mut event = submit("sales", 1);
    event["wait_seconds"] = json!(10);
    let ended = function.reply(event).await;
    assert_eq!(
        (&ended["error"], &ended["cause"], &ended["failure"]),
        (&json!("Statement.Failed"), &json!(text), &json!("serialization-conflict"))
    );
    let mut event = about("status", &ended["id"]);
    event["raise"] = json!(true);
    let raised = json!({ "errorType": "Statement.Failed", "errorMessage": text });
    assert_eq!(function.ask(event).await, ("error".to_owned(), raised));
}

#[tokio::test]
async fn a_metric_tells_of_a_statement_that_still_runs() {
    let long = ScriptedExecution::finished(Duration::from_secs(3_600));
    let function = Function::over(Script::new().otherwise(long)).await;
    let id = function.reply(submit("sales", 1)).await["id"].clone();
    let mut event = about("wait", &id);
    event["wait_seconds"] = json!(1);
    let played = function.play(&[event.to_string()]).await;
    let lines = played.logs.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let metrics = lines.into_iter().find(|line| line["_aws"].is_object()).unwrap();
    let seconds = metrics["RunningSeconds"].as_f64().unwrap();
    assert!((1.0..60.0).contains(&seconds), "{metrics}");
    assert_eq!((&metrics["Handler"], &metrics["statement_id"]), (&json!("statement"), &id));
}

#[tokio::test]
async fn a_running_statement_is_cancelled() {
    let long = ScriptedExecution::finished(Duration::from_secs(3_600));
    let function = Function::over(Script::new().otherwise(long)).await;
    let submitted = function.reply(submit("sales", 1)).await;
    let mut event = about("cancel", &submitted["id"]);
    event["wait_seconds"] = json!(20);
    let ended = function.reply(event).await;
    assert_eq!((&ended["outcome"], &ended["failure"]), (&json!("aborted"), &json!("aborted")), "{ended}");
    assert!(function.service.effects().is_empty());
}

#[tokio::test]
async fn a_result_is_read_and_one_that_is_too_large_is_refused() {
    let result = |count: i64| {
        let row = |n| vec![Field::Long(n), Field::String("x".repeat(4_000))];
        let columns = vec![Column::new("n", "int8"), Column::new("x", "varchar")];
        ScriptedExecution::finished(Duration::ZERO).with_result(columns, (0..count).map(row).collect())
    };
    let script = Script::new().on("small", result(2)).on("large", result(300));
    let function = Function::over(script).await;
    let run = async |sql: &str| {
        let event = json!({ "version": 1, "action": "submit", "sql": sql, "token": sql, "wait_seconds": 10 });
        function.reply(event).await["id"].clone()
    };
    let small = function.reply(about("result", &run("SELECT small").await)).await;
    assert_eq!(small["rows"][1][0], 1);
    assert_eq!((&small["columns"][0]["name"], &small["next"]), (&json!("n"), &Value::Null));

    let id = run("SELECT large").await;
    let (mut read, mut page) = (0, Value::Null);
    let mut refused = 0;
    loop {
        let mut event = about("result", &id);
        event["page"] = page.clone();
        let (mut what, mut body) = function.ask(event.clone()).await;
        if what == "error" {
            assert_eq!(body["errorType"], "SfnAdapter.TooLarge");
            assert!(body["errorMessage"].as_str().unwrap().contains("UNLOAD"), "{body}");
            refused += 1;
            event["max_rows"] = json!(50);
            (what, body) = function.ask(event).await;
        }
        assert_eq!(what, "response", "{body}");
        assert!(body.to_string().len() < 256 * 1024);
        read += body["rows"].as_array().unwrap().len();
        page = body["next"].clone();
        if page.is_null() {
            break;
        }
    }
    assert_eq!(read, 300);
    assert!(refused > 0, "the test's result is too small");
}

#[tokio::test]
async fn hostile_events_are_answered_and_the_process_lives_on() {
    let function = Function::over(Script::new()).await;
    let events = [
        "{}".to_owned(),
        String::new(),
        "null".to_owned(),
        "[".repeat(5_000),
        r#"{"version":1,"action":"\ud800"}"#.to_owned(),
        json!({ "version": 2, "action": "status", "id": "a" }).to_string(),
        json!({ "version": 1, "action": "status", "id": "a", "QueryId": "b" }).to_string(),
        json!({ "version": 1, "action": "submit", "sql": { "classified": 1 } }).to_string(),
        json!({ "version": 1, "action": "status", "id": "no-such-id" }).to_string(),
        json!({ "version": 1, "action": "list", "of": "statements" }).to_string(),
    ];
    let played = function.play(&events).await;
    let names: Vec<_> = played.posted.iter().map(|(_, body)| body["errorType"].as_str()).collect();
    let mut expected = [Some("SfnAdapter.BadInput"); 10];
    expected[8] = names[8];
    expected[9] = None;
    assert_eq!(names, expected);
    assert!(names[8].unwrap().starts_with("RedshiftData."), "{names:?}");
    for (_, body) in &played.posted[..9] {
        let message = body["errorMessage"].as_str().unwrap();
        assert!(
            !message.contains("classified") && !message.contains("::") && !message.contains("{ "),
            "{message}"
        );
    }
}

#[tokio::test]
async fn logs_name_the_run_and_metrics_are_lines_of_cloudwatch() {
    let function = Function::over(Script::new()).await;
    let mut event = submit("sales", 1);
    event["wait_seconds"] = json!(10);
    let played = function.play(&[event.to_string()]).await;
    for private in ["load_sales", "classified", super::SECRET, "hush-hush"] {
        assert!(!played.logs.contains(private), "{private} is in the log");
    }
    let lines: Vec<Value> = played.logs.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let submitted = lines.iter().find(|line| line["message"] == "submitted").unwrap();
    let span = &submitted["span"];
    assert_eq!((&span["step"], &span["action"]), (&json!("sales"), &json!("submit")));
    assert_eq!(span["run"], "arn:aws:states:eu-west-1:1:execution:load:7f3a");
    assert_eq!(span["request_id"], "request-0");
    assert!(submitted["timestamp"].is_string() && submitted["statement_id"].is_string());
    let metrics = lines.iter().find(|line| line["_aws"].is_object()).unwrap();
    assert_eq!((&metrics["Handler"], &metrics["Succeeded"]), (&json!("statement"), &json!(1.0)));
    assert_eq!(metrics["statement_id"], submitted["statement_id"]);
}
