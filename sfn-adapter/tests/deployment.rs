//! Checks that the README and the deployment files agree with the code.

#![cfg(all(feature = "callback", feature = "glue", feature = "hudi"))]
#![allow(clippy::unwrap_used)]

use serde_json::Value;
use sfn_adapter::{ErrorNames, HandlerName, VARIABLES};

const README: &str = include_str!("../README.md");

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn actions(statements: &Value) -> Vec<String> {
    let all = statements.as_array().unwrap().iter().map(|statement| &statement["Action"]);
    all.flat_map(|action| match action {
        Value::Array(actions) => actions.iter().map(|action| action.as_str().unwrap().to_owned()).collect(),
        action => vec![action.as_str().unwrap().to_owned()],
    })
    .collect()
}

#[test]
fn the_readme_names_every_variable_and_every_error() {
    for variable in VARIABLES {
        assert!(README.contains(&format!("`{variable}`")), "{variable}");
    }
    for name in ErrorNames::Boto3.all() {
        assert!(README.contains(&format!("`{name}`")), "{name}");
    }
    for name in ErrorNames::Qualified.all() {
        // Two names that differ only in the prefix share one entry in the table.
        let bare = name.trim_start_matches("RedshiftData.");
        assert!(README.contains(&format!("`{name}`")) || README.contains(&format!("`{bare}`")), "{name}");
    }
}

#[test]
fn the_role_may_do_what_the_function_does_and_no_more() {
    let policy = parsed(include_str!("../deploy/policy.json"));
    assert_eq!(
        actions(&policy["Statement"]),
        [
            "redshift-data:ExecuteStatement",
            "redshift-data:DescribeStatement",
            "secretsmanager:GetSecretValue",
            "logs:CreateLogStream",
            "logs:PutLogEvents",
        ]
    );
    let anywhere =
        policy["Statement"].as_array().unwrap().iter().filter(|statement| statement["Resource"] == "*");
    assert!(anywhere.into_iter().all(|statement| statement["Condition"].is_object()));
}

/// Returns the functions of a template, by their names.
fn functions(template: &Value) -> Vec<(String, &Value)> {
    let resources = template["Resources"].as_object().unwrap().iter();
    let functions = resources.filter(|(_, resource)| resource["Type"] == "AWS::Serverless::Function");
    functions.map(|(name, resource)| (name.clone(), &resource["Properties"])).collect()
}

#[test]
fn the_templates_choose_known_handlers_with_variables_that_the_function_reads() {
    let handlers: Vec<_> = HandlerName::ALL.iter().map(|handler| handler.as_str()).collect();
    for (text, number) in [
        (include_str!("../deploy/machine.json"), 2),
        (include_str!("../deploy/hudi.json"), 1),
        (include_str!("../deploy/glue.json"), 1),
    ] {
        let template = parsed(text);
        let functions = functions(&template);
        assert_eq!(functions.len(), number);
        for (name, function) in functions {
            let variables = function["Environment"]["Variables"].as_object().unwrap();
            assert!(handlers.contains(&variables["SFN_ADAPTER_HANDLER"].as_str().unwrap()), "{name}");
            assert!(variables.keys().all(|variable| VARIABLES.contains(&variable.as_str())), "{name}");
            assert_eq!(
                (&function["Runtime"], &function["Architectures"][0]),
                (&"provided.al2023".into(), &"arm64".into())
            );
            let logs = function["LoggingConfig"]["LogGroup"]["Ref"].as_str().unwrap();
            assert!(template["Resources"][logs]["Properties"]["RetentionInDays"].is_u64(), "{name}");
        }
    }
}

#[test]
fn only_actions_without_a_resource_are_allowed_anywhere() {
    let template = parsed(include_str!("../deploy/machine.json"));
    for (name, resource) in template["Resources"].as_object().unwrap() {
        let statements = resource["Properties"]["PolicyDocument"]["Statement"].as_array();
        for statement in statements.into_iter().flatten().filter(|statement| statement["Resource"] == "*") {
            let answers = actions(&Value::Array(vec![statement.clone()]));
            let is_answer = answers.iter().all(|action| action.starts_with("states:SendTask"));
            assert!(is_answer || statement["Condition"].is_object(), "{name}");
        }
    }
}

#[test]
fn the_machine_runs_the_listed_jobs_and_nothing_else_of_glue() {
    let template = parsed(include_str!("../deploy/machine.json"));
    let statement = &template["Resources"]["JobsPolicy"]["Properties"]["PolicyDocument"]["Statement"];
    let integration = ["StartJobRun", "GetJobRun", "GetJobRuns", "BatchStopJobRun"];
    assert_eq!(actions(statement), integration.map(|action| format!("glue:{action}")));
    assert_eq!(statement[0]["Resource"]["Ref"], "GlueJobArns");
    let substitutions = &template["Resources"]["Machine"]["Properties"]["DefinitionSubstitutions"];
    assert_eq!(substitutions["HudiArn"]["Ref"], "HudiArn");
}

#[test]
fn every_template_has_alarms_and_logs_with_an_end() {
    for text in [
        include_str!("../deploy/template.json"),
        include_str!("../deploy/machine.json"),
        include_str!("../deploy/hudi.json"),
        include_str!("../deploy/glue.json"),
    ] {
        let template = parsed(text);
        let of = |kind: &str| -> Vec<&Value> {
            let resources = template["Resources"].as_object().unwrap().values();
            resources.filter(|resource| resource["Type"] == kind).collect()
        };
        let kinds = ["AWS::CloudWatch::Alarm", "AWS::Logs::LogGroup"].map(of);
        assert!(kinds.iter().all(|found| !found.is_empty()));
        for alarm in &kinds[0] {
            assert_eq!(alarm["Properties"]["AlarmActions"][0]["Ref"], "AlarmTopicArn");
        }
        for logs in &kinds[1] {
            assert!(logs["Properties"]["RetentionInDays"].is_u64());
        }
        assert_eq!(template["Parameters"]["Architecture"].get("Default").unwrap_or(&"arm64".into()), "arm64");
    }
}

fn namespace_of_stack() -> Value {
    serde_json::json!({"Fn::Sub": "sfn-adapter/${AWS::StackName}"})
}

/// Regression: the alarms of a stack counted the metrics of all stacks in the account and region.
#[test]
fn every_stack_has_metrics_of_its_own() {
    for text in [
        include_str!("../deploy/template.json"),
        include_str!("../deploy/machine.json"),
        include_str!("../deploy/hudi.json"),
        include_str!("../deploy/glue.json"),
    ] {
        assert!(!text.contains("\"Namespace\": \"sfn-adapter\""));
        let template = parsed(text);
        let functions = template["Resources"].as_object().unwrap().iter();
        for (name, function) in functions.filter(|(_, found)| found["Type"] == "AWS::Serverless::Function") {
            let variables = &function["Properties"]["Environment"]["Variables"];
            assert_eq!(variables["METRICS_NAMESPACE"], namespace_of_stack(), "{name}");
        }
    }
}

#[test]
fn every_alarm_counts_what_can_happen() {
    let handlers = [
        (include_str!("../deploy/template.json"), "redshift"),
        (include_str!("../deploy/machine.json"), "statement"),
        (include_str!("../deploy/glue.json"), "glue"),
    ];
    for (text, handler) in handlers {
        let template = parsed(text);
        for (name, resource) in template["Resources"].as_object().unwrap() {
            let alarm = &resource["Properties"];
            // An alarm over an expression has its metric in a list.
            let of_expression = &alarm["Metrics"][1]["MetricStat"]["Metric"];
            let alarm = if of_expression.is_object() { of_expression } else { alarm };
            if alarm["Namespace"] == namespace_of_stack() {
                assert_eq!(alarm["Dimensions"][0]["Value"], handler, "{name}");
                let metric = format!("`{}`", alarm["MetricName"].as_str().unwrap());
                assert!(README.contains(&metric), "{name}: {metric}");
            }
        }
    }
    // A generated machine has no TimeoutSeconds, so none of its executions times out.
    assert!(!include_str!("../deploy/machine.json").contains("ExecutionsTimedOut"));
}

/// Returns the errors of executions that an alarm counts in every form.
fn alarm_of_executions(rule: &str, alarm: &str) -> Vec<String> {
    let template = parsed(include_str!("../deploy/machine.json"));
    let (rule_resource, alarm) = (&template["Resources"][rule], &template["Resources"][alarm]);
    assert_eq!(rule_resource["Type"], "AWS::Events::Rule");
    assert!(rule_resource["Condition"].is_null() && alarm["Condition"].is_null());
    assert_eq!(alarm["Properties"]["Dimensions"][0]["Value"]["Ref"], rule);
    let detail = &rule_resource["Properties"]["EventPattern"]["detail"];
    assert_eq!(detail["stateMachineArn"][0]["Ref"], "Machine");
    let errors = detail["error"].as_array().unwrap().iter();
    errors.map(|error| error.as_str().unwrap().to_owned()).collect()
}

/// Returns the errors with this ending that states of a generated machine record.
fn recorded(ending: &str) -> std::collections::BTreeSet<String> {
    let generated = include_str!("asl/snapshots/day-sdk-jsonata.snap");
    let errors = generated.split("'error': '").skip(1).filter_map(|rest| Some(rest.split_once('\'')?.0));
    errors.filter(|error| error.ends_with(ending)).map(str::to_owned).collect()
}

#[test]
fn every_form_has_an_alarm_for_a_timeout() {
    let errors = alarm_of_executions("TimedOutRule", "TimedOutExecutionAlarm");
    assert_eq!(errors.len(), 3);
    assert_eq!(recorded(".TimedOut"), errors.into_iter().collect());
}

/// Regression: the alarm needed a function, and missed lost submits, lost statuses and failed cancels, which
/// only the machine knows.
#[test]
fn every_form_has_an_alarm_for_every_unknown_outcome() {
    let errors = alarm_of_executions("UnknownRule", "UnknownExecutionAlarm");
    assert_eq!(recorded(".Unknown"), errors.into_iter().collect());
    // Each state with an unknown outcome records one of these errors.
    let generated = include_str!("asl/snapshots/day-sdk-jsonata.snap");
    let outcomes: Vec<_> = generated.split("'outcome': 'unknown', ").skip(1).collect();
    assert!(outcomes.len() > 4 && outcomes.iter().all(|rest| rest.contains(".Unknown', 'cause'")));
}

#[test]
fn the_template_sets_every_variable_that_the_function_needs() {
    let template = parsed(include_str!("../deploy/template.json"));
    let function = &template["Resources"]["Function"]["Properties"];
    let policy = parsed(include_str!("../deploy/policy.json"));
    // SAM adds the permission to write logs.
    let allowed = actions(&function["Policies"][0]["Statement"]);
    assert_eq!(allowed, actions(&policy["Statement"])[..3]);
    let variables = &function["Environment"]["Variables"];
    for name in ["REGION", "CLUSTER_NAME", "WORKGROUP_NAME", "PROCEDURE", "SECRET_ARN", "DATABASE", "SCHEMA"]
    {
        assert!(variables[name]["Ref"].is_string(), "{name}");
    }
    let of_stack = |name: &String| name == "METRICS_NAMESPACE";
    let references = variables.as_object().unwrap().iter().filter(|(name, _)| !of_stack(name));
    for reference in references.map(|(_, variable)| variable["Ref"].as_str().unwrap()) {
        assert!(
            reference.starts_with("AWS::") || template["Parameters"][reference].is_object(),
            "{reference}"
        );
    }
}
