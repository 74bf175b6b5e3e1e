//! Generated state machines: pinned definitions, and facts that hold for each form and query language.

#![allow(clippy::unwrap_used)]

use std::{collections::BTreeSet, fs, path::PathBuf};

use redshift_orchestrator::Pipeline;
use serde_json::Value;
use sfn_adapter::asl::{
    Form, Generated, Options, QueryLanguage, generate, mocks,
    model::{State, States, Task},
};

const FORMS: [(Form, &str); 3] = [(Form::Lambda, "lambda"), (Form::Sdk, "sdk"), (Form::Callback, "callback")];
const LANGUAGES: [(QueryLanguage, &str); 2] =
    [(QueryLanguage::Jsonata, "jsonata"), (QueryLanguage::JsonPath, "jsonpath")];

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/asl")
}

fn pipelines() -> Vec<(String, Pipeline)> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(directory().join("pipelines")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let name = |file: &PathBuf| file.file_stem().unwrap().to_str().unwrap().to_owned();
    files.iter().map(|file| (name(file), Pipeline::from_toml_file(file).unwrap())).collect()
}

fn generated(pipeline: &Pipeline, form: Form, language: QueryLanguage) -> Generated {
    let mut options = Options::default();
    options.form = form;
    options.query_language = language;
    generate(pipeline, &options).unwrap()
}

/// Every pipeline in every form and language, with the name of its snapshot.
fn all() -> Vec<(String, Generated)> {
    let mut all = Vec::new();
    for (name, pipeline) in pipelines() {
        for (form, form_name) in FORMS {
            for (language, language_name) in LANGUAGES {
                let generated = generated(&pipeline, form, language);
                all.push((format!("{name}-{form_name}-{language_name}"), generated));
            }
        }
    }
    all
}

/// Calls `visit` with each group of states and the name of its first state.
fn groups(start_at: &str, states: &States, visit: &mut impl FnMut(&str, &States)) {
    visit(start_at, states);
    for state in states.values() {
        if let State::Parallel(parallel) = state {
            for branch in &parallel.branches {
                groups(&branch.start_at, &branch.states, visit);
            }
        }
    }
}

#[test]
fn the_definitions_are_these() {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("snapshots");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| {
        let pinned =
            |name: &str| ["one-", "sales-lambda", "day-sdk"].iter().any(|begin| name.starts_with(begin));
        for (name, generated) in all().into_iter().filter(|(name, _)| pinned(name)) {
            let notes: String = generated.notes.iter().map(|note| format!("{note}\n")).collect();
            insta::assert_snapshot!(name, format!("{}{notes}", generated.machine.to_json()));
        }
    });
}

/// Regression: the clock of a JSONPath machine stood still while cancel requests failed, so it never ended.
#[test]
fn time_passes_while_cancel_requests_fail() {
    for (name, generated) in all().into_iter().filter(|(name, _)| name.ends_with("jsonpath")) {
        let mut cancels = 0;
        groups(&generated.machine.start_at, &generated.machine.states, &mut |_, states| {
            for (state, task) in states.iter().filter(|(state, _)| state.ends_with(": cancel")) {
                let task = serde_json::to_value(task).unwrap();
                let mut next = task["Catch"][0]["Next"].as_str().unwrap();
                if let State::Choice(choice) = &states[next] {
                    next = &choice.choices[0].next;
                }
                let clock = serde_json::to_value(&states[next]).unwrap();
                assert_eq!(clock["ResultPath"], "$.run.clock", "{name}, {state} leads to {next}");
                cancels += 1;
            }
        });
        assert!(cancels > 0 || name.starts_with("day"), "{name}");
    }
}

/// Regression: a cancel could come a whole pause after the timeout, and a failed one was then not repeated.
#[test]
fn a_poll_interval_has_a_limit_and_never_delays_a_cancel() {
    let text = "name = \"p\"\n[[steps]]\nname = \"s\"\nsql = \"SELECT 1\"\ntimeout = \"50m\"\n";
    let pipeline = Pipeline::from_toml(text).unwrap();
    for (form, _) in FORMS {
        let mut options = Options::default();
        options.form = form;
        options.query_language = QueryLanguage::JsonPath;
        options.poll_interval = Some(std::time::Duration::from_secs(3_601));
        let message = generate(&pipeline, &options).unwrap_err().message().to_owned();
        assert!(message.contains("3601 seconds is too long; choose at most 1 hour"), "{message}");
        options.poll_interval = Some(std::time::Duration::from_secs(3_600));
        let states = generate(&pipeline, &options).unwrap().machine.states;
        let pauses = ["begin", "no event", "wait rest"].map(|name| states.get(&format!("s: {name}")));
        let written: String =
            pauses.iter().flatten().map(|state| serde_json::to_string(state).unwrap()).collect();
        assert!(written.contains("\"waited\":3000"), "{form:?}: {written}");
        let late = serde_json::to_value(&states["s: wait late"]).unwrap();
        assert_eq!(late["Parameters"]["wait"], 300, "{form:?}");
    }
}

/// Regression: after a redrive, a branch handed back the old outcomes of the other branches' steps, and the
/// last branch replaced the new ones.
#[test]
fn a_branch_hands_back_only_the_outcomes_of_its_own_steps() {
    let (_, pipeline) = pipelines().into_iter().find(|(name, _)| name == "sales").unwrap();
    for (language, _) in LANGUAGES {
        let machine = generated(&pipeline, Form::Lambda, language).machine;
        let (name, parallel) = machine
            .states
            .iter()
            .find_map(|(name, state)| match state {
                State::Parallel(parallel) => Some((name, parallel)),
                _ => None,
            })
            .unwrap();
        let own = |number: usize| {
            let end = &parallel.branches[number].states[&format!("Branch 1.2.{}: end", number + 1)];
            serde_json::to_value(end).unwrap()
        };
        let joined = serde_json::to_value(&machine.states[&format!("{name}: joined")]).unwrap();
        match language {
            QueryLanguage::JsonPath => {
                let step = |key: &str| serde_json::json!({format!("{key}.$"): format!("$.steps.{key}")});
                assert_eq!(own(0)["Parameters"], step("dim_customer"));
                assert_eq!(own(1)["Parameters"], step("dim_item"));
                let steps = "States.JsonMerge($.steps, $.joined.steps, false)";
                assert_eq!(joined["Parameters"]["steps.$"], steps);
            }
            QueryLanguage::Jsonata => {
                let step = |key: &str| {
                    format!(
                        "{{% $merge([$states.input, {{'run': {{}}, 'own': {{'{key}': $states.input.steps.{key}}}}}]) %}}"
                    )
                };
                assert_eq!(own(0)["Output"], step("dim_customer"));
                assert_eq!(own(1)["Output"], step("dim_item"));
                let steps = "'steps': $merge([$states.input[0].steps, $merge($states.input.own)])";
                assert!(joined["Output"].as_str().unwrap().contains(steps), "{joined}");
            }
        }
    }
}

/// Returns the machine of a pipeline with one statement.
fn with_overlap(overlap: &str, language: QueryLanguage) -> Generated {
    let text =
        format!("name = \"p\"\noverlap = \"{overlap}\"\n[[steps]]\nname = \"s\"\nsql = \"SELECT 1\"\n");
    generated(&Pipeline::from_toml(&text).unwrap(), Form::Lambda, language)
}

/// Regression: two redriven executions waited for each other.
#[test]
fn a_redriven_execution_waits_only_for_an_older_one() {
    for overlap in ["refuse", "queue"] {
        for (language, _) in LANGUAGES {
            let states = with_overlap(overlap, language).machine.states;
            assert_eq!(states["Alone"].successors(), ["Oldest execution", "s: ready"], "{overlap}");
            let State::Choice(rules) = &states["Is oldest"] else { panic!() };
            let next: Vec<_> = rules.choices.iter().map(|rule| rule.next.as_str()).collect();
            assert_eq!(next[..3], ["Overlap", "s: ready", "Overlap"], "{overlap}");
            let waits = Some("Wait for other executions");
            match overlap {
                "queue" => assert_eq!(rules.default.as_deref(), waits),
                _ => {
                    assert_eq!((next.last().copied(), rules.default.as_deref()), (waits, Some("Overlap")));
                    let last = serde_json::to_string(rules.choices.last().unwrap()).unwrap();
                    assert!(last.contains("redriven"), "{last}");
                }
            }
        }
    }
}

/// Regression: an execution waited for others without a limit, and the budget counted one pause.
#[test]
fn the_budget_has_all_pauses_in_which_an_execution_waits_for_others() {
    for (language, _) in LANGUAGES {
        let [queue, refuse] = ["queue", "refuse"].map(|overlap| with_overlap(overlap, language));
        // Pauses of 60, 80, 100 seconds and so on, with 15 events for each.
        let machine = queue.machine.to_json();
        assert!(machine.contains("\"seconds\": 60") && machine.contains("2460"), "{machine}");
        assert_eq!(queue.budget.events - refuse.budget.events, 120 * 15);
    }
}

/// Returns all tasks whose state has a name that ends like this.
fn tasks(machine: &sfn_adapter::asl::model::StateMachine, end: &str) -> Vec<Task> {
    let mut found = Vec::new();
    groups("", &machine.states, &mut |_, states| {
        for (name, state) in states {
            if let State::Task(task) = state
                && name.ends_with(end)
            {
                found.push((**task).clone());
            }
        }
    });
    found
}

/// Regression: an invocation that Lambda ended was not repeated, because only older names of this error were
/// listed.
#[test]
fn an_invocation_that_lambda_ended_is_repeated() {
    for (name, generated) in all() {
        for end in [": run", ": submit", ": status", ": cancel", ": upsert"] {
            for task in tasks(&generated.machine, end) {
                if task.resource.contains(":lambda:invoke") {
                    let retried: BTreeSet<_> =
                        task.retry.iter().flat_map(|retrier| &retrier.error_equals).collect();
                    for error in ["Sandbox.Timedout", "Runtime.ExitError", "Lambda.Unknown"] {
                        assert!(retried.contains(&error.to_owned()), "{name}{end}: {error}");
                    }
                }
            }
        }
    }
}

/// Regression: in JSONata, the time of a statement included the retries of its submit.
#[test]
fn the_time_of_a_statement_begins_with_the_result_of_its_submit() {
    let text = "name = \"p\"\n[[steps]]\nname = \"s\"\nsql = \"SELECT 1\"\n";
    let states =
        generated(&Pipeline::from_toml(text).unwrap(), Form::Sdk, QueryLanguage::Jsonata).machine.states;
    let text = |state: &str| serde_json::to_string(&states[state]).unwrap();
    assert!(!text("s: begin").contains("$millis()"));
    assert!(text("s: submit").contains("'since': $millis()"), "{}", text("s: submit"));
    assert!(text("s: status").contains("$millis() - $states.input.run.statement.since"));
}

/// Regression: a failed step hid a later step whose statement could still run.
#[test]
fn an_execution_reports_an_unknown_outcome_before_a_failed_one() {
    for (name, generated) in all() {
        let machine: Value = serde_json::from_str(&generated.machine.to_json()).unwrap();
        let rules = machine["States"]["Outcome"]["Choices"].as_array().unwrap();
        let is_unknown: Vec<bool> = rules.iter().map(|rule| rule.to_string().contains("unknown")).collect();
        let steps = rules.len() / 2;
        assert!(steps > 0 && is_unknown[..steps].iter().all(|is_unknown| *is_unknown), "{name}");
        assert!(rules[steps..].iter().all(|rule| rule.to_string().contains("failed")), "{name}");
    }
}

#[test]
fn every_transition_has_a_target_and_every_state_is_reached() {
    for (name, generated) in all() {
        let machine = &generated.machine;
        let mut seen = BTreeSet::new();
        groups(&machine.start_at, &machine.states, &mut |start_at, states| {
            let mut reached = BTreeSet::from([start_at]);
            let mut open = vec![start_at];
            while let Some(state) = open.pop() {
                let state = states.get(state).unwrap_or_else(|| panic!("{name}: there is no state {state}"));
                open.extend(state.successors().into_iter().filter(|next| reached.insert(next)));
            }
            let all: BTreeSet<&str> = states.keys().map(String::as_str).collect();
            assert_eq!(all.difference(&reached).collect::<Vec<_>>(), Vec::<&&str>::new(), "{name}");
            for state in states.keys() {
                assert!(state.chars().count() <= 80, "{name}: {state}");
                assert!(seen.insert(state.clone()), "{name}: two states are called {state}");
            }
        });
    }
}

#[test]
fn every_path_through_every_state_has_a_request() {
    for (name, pipeline) in pipelines() {
        for (form, form_name) in FORMS {
            for (language, language_name) in LANGUAGES {
                let mut options = Options::default();
                options.form = form;
                options.query_language = language;
                let mocks = mocks(&pipeline, &options).unwrap();
                let mut transitions = BTreeSet::new();
                for mock in &mocks {
                    transitions.extend(mock.next_state.as_deref().map(|next| (mock.state.as_str(), next)));
                }
                let machine = generated(&pipeline, form, language).machine;
                groups("", &machine.states, &mut |_, states| {
                    for (state, definition) in states {
                        assert!(mocks.iter().any(|mock| mock.state == *state), "{name}: {state}");
                        for next in definition.successors() {
                            let is_tried = transitions.contains(&(state.as_str(), next));
                            assert!(is_tried, "{name} {form_name} {language_name}: from {state} to {next}");
                        }
                    }
                });
            }
        }
    }
}

#[test]
fn no_state_of_a_branch_fails() {
    // A failed branch stops its siblings. Their statements would keep running without being polled.
    for (name, generated) in all() {
        groups("", &generated.machine.states, &mut |start_at, states| {
            let fails = states.values().any(|state| matches!(state, State::Fail(_)));
            assert!(start_at.is_empty() || !fails, "{name}: {start_at}");
            for (state_name, state) in states {
                if let State::Task(task) = state {
                    let guards = ["Other executions", "Report"].contains(&state_name.as_str());
                    let catches = task.catch.iter().any(|catcher| catcher.error_equals == ["States.ALL"]);
                    assert!(catches || guards, "{name}: {state_name}");
                    assert!(task.timeout_seconds.is_some(), "{name}: {state_name}");
                }
            }
        });
    }
}

#[test]
fn a_statement_of_24_hours_fits_in_the_history() {
    let pipeline =
        Pipeline::from_toml("name = \"p\"\n[[steps]]\nname = \"s\"\nsql = \"SELECT 1\"\n").unwrap();
    for (form, _) in FORMS {
        for (language, _) in LANGUAGES {
            let budget = generated(&pipeline, form, language).budget;
            assert!(budget.events < 25_000, "{form:?} {language:?}: {}", budget.events);
        }
    }
}

#[test]
fn many_long_statements_get_longer_pauses() {
    let step = |number| format!("[[steps]]\nname = \"s{number}\"\nsql = \"SELECT {number}\"\n");
    let text = |count| "name = \"p\"\n".to_owned() + &(0..count).map(step).collect::<String>();
    for (form, _) in FORMS {
        let budget =
            generated(&Pipeline::from_toml(&text(12)).unwrap(), form, QueryLanguage::JsonPath).budget;
        assert!(budget.events < 25_000, "{form:?}: {}", budget.events);
    }
    let error = generate(&Pipeline::from_toml(&text(200)).unwrap(), &Options::default()).unwrap_err();
    assert!(error.message().contains("25000 events"), "{error:?}");
}

#[test]
fn a_cancellation_that_always_fails_ends_before_the_history_is_full() {
    for (name, generated) in all() {
        groups("", &generated.machine.states, &mut |_, states| {
            for (state, cancel) in states.iter().filter(|(state, _)| state.ends_with(": cancel")) {
                let State::Task(cancel) = cancel else { panic!("{state}") };
                // The error is recorded in its own member, and the next poll follows.
                assert!(
                    serde_json::to_string(&cancel.catch).unwrap().contains("cancel_failed"),
                    "{name}: {state}"
                );
                assert!(
                    cancel.retry.iter().all(|retrier| retrier.max_attempts <= Some(3)),
                    "{name}: {state}"
                );
                let label = state.trim_end_matches(": cancel");
                let State::Choice(ended) = &states[&format!("{label}: ended")] else { panic!("{label}") };
                let rules: Vec<_> = ended
                    .choices
                    .iter()
                    .map(|rule| (rule.next.as_str(), serde_json::to_string(rule).unwrap()))
                    .collect();
                let [_, (given_up, condition), (cancelled, _), ..] = rules.as_slice() else {
                    panic!("{label}")
                };
                assert!(
                    given_up.ends_with(": not cancelled") && condition.contains("cancel_failed"),
                    "{condition}"
                );
                assert!(cancelled.ends_with(": cancel"), "{cancelled}");
            }
        });
    }
}

/// Returns the table that `sfn-adapter cost` prints for a pipeline.
#[cfg(feature = "cli")]
fn costs(pipeline: &str, durations: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("load.toml");
    fs::write(&file, pipeline).unwrap();
    let mut program = std::process::Command::new(env!("CARGO_BIN_EXE_sfn-adapter"));
    let cost = program.arg("cost").arg(&file).arg("--duration").args(durations).output().unwrap();
    let table = String::from_utf8(cost.stdout).unwrap();
    let rows = 1 + 3 * durations.len();
    assert_eq!(table.lines().count(), rows, "{table}{}", String::from_utf8_lossy(&cost.stderr));
    format!("```text\n{table}```")
}

#[cfg(feature = "cli")]
#[test]
fn the_tables_of_costs_in_the_guides_are_the_programs() {
    let pipeline = "name = \"load\"\noverlap = \"allow\"\n[[steps]]\nname = \"sales\"\nsql = \"SELECT 1\"\n";
    let table = costs(pipeline, &["1s", "10m", "2h", "24h"]);
    let guide = include_str!("../../../docs/state-machines.md");
    assert!(guide.contains(&table), "docs/state-machines.md does not have this table:\n{table}");

    let guide = include_str!("../../../docs/from-the-reference-solution.md");
    let (_, pipeline) = guide.split_once("```toml\n").unwrap();
    let table = costs(pipeline.split_once("```").unwrap().0, &["1s", "10m", "20m"]);
    assert!(guide.contains(&table), "docs/from-the-reference-solution.md does not have this table:\n{table}");
}

#[test]
fn the_token_is_independent_of_the_states_own_retries() {
    for (name, generated) in all() {
        let text = generated.machine.to_json();
        assert!(!text.contains("RetryCount"), "{name}");
        for expected in ["Execution.Id", "Execution.RedriveCount", "run.attempt"] {
            assert!(text.contains(expected), "{name}: {expected}");
        }
    }
}

#[test]
fn what_a_state_machine_cannot_run_is_refused_with_the_way_out() {
    let refused = |text: &str| {
        let error = generate(&Pipeline::from_toml(text).unwrap(), &Options::default()).unwrap_err();
        error.message().to_owned()
    };
    let step = "[[steps]]\nname = \"s\"\nsql = \"SELECT :a\"\nparameters = { a = \"${p}\" }\n";
    let secret = refused(&format!("name = \"p\"\n[parameters.p]\nsecret = true\n{step}"));
    assert!(secret.contains("Secrets Manager"), "{secret}");
    let sqls = vec!["\"SELECT 1\""; 41].join(", ");
    let long = refused(&format!(
        "name = \"p\"\n[[steps]]\nname = \"s\"\nbatch = [{sqls}]\nexecution_mode = \"auto-commit\"\n"
    ));
    assert!(long.contains("41 statements") && long.contains("divide the step"), "{long}");
    let hudi = |name: &str, table: &str| {
        format!(
            "[[steps]]\nname = \"{name}\"\nhudi = {{ table = \"{table}\", files = [\"s3://raw/x.csv\"] }}\n"
        )
    };
    let two = refused(&format!("name = \"p\"\n{}{}", hudi("a", "customer"), hudi("b", "address")));
    assert!(two.contains("2 Hudi tables") && two.contains("--hudi-arn") && two.contains("{table}"), "{two}");
    let named = refused(&format!("name = \"p\"\n[parameters.t]\n{}", hudi("a", "${t}")));
    assert!(named.contains("write the name"), "{named}");
}

#[test]
fn a_graph_that_is_not_series_parallel_names_the_edges_of_its_barrier() {
    let (_, pipeline) = pipelines().into_iter().find(|(name, _)| name == "crossed").unwrap();
    let notes = generated(&pipeline, Form::Lambda, QueryLanguage::Jsonata).notes;
    assert!(
        notes.contains(
            &"barrier instead of a -> left, a -> mix, b -> mix, b -> right: left, right also wait for a, b"
                .to_owned()
        ),
        "{notes:#?}"
    );
}

#[test]
fn a_barrier_of_one_step_is_described_in_the_singular() {
    let step = |name: &str, after: &str| {
        format!("[[steps]]\nname = \"{name}\"\nsql = \"SELECT 1\"\nafter = [{after}]\n")
    };
    let text = format!(
        "name = \"p\"\n{}{}{}{}",
        step("a", ""),
        step("b", ""),
        step("left", "\"a\""),
        step("mix", "\"a\", \"b\"")
    );
    let notes = generated(&Pipeline::from_toml(&text).unwrap(), Form::Lambda, QueryLanguage::Jsonata).notes;
    assert!(notes.iter().any(|note| note.ends_with(": left also waits for b")), "{notes:#?}");
}

#[test]
fn events_are_those_of_the_contract() {
    let (_, pipeline) = pipelines().into_iter().find(|(name, _)| name == "sales").unwrap();
    let machine = generated(&pipeline, Form::Lambda, QueryLanguage::Jsonata).machine;
    let State::Task(submit) = &machine.states["fact-sales: submit"] else { panic!() };
    let payload = &submit.arguments.as_ref().unwrap()["Payload"];
    assert_eq!(payload["version"], 1);
    assert_eq!(payload["call"], "{% $states.input.parameters.schema & '.load_sales(:day)' %}");
    assert_eq!(payload["identity"]["execution"], "{% $states.context.Execution.Id %}");
    assert_eq!(payload["identity"]["step"], "fact-sales");
    assert_eq!(payload["parameters"], serde_json::json!({"day": "{% $states.input.parameters.day %}"}));
    let State::Task(status) = &machine.states["fact-sales: status"] else { panic!() };
    let payload = &status.arguments.as_ref().unwrap()["Payload"];
    assert_eq!(payload["action"], Value::from("status"));
}

/// Replaces the expressions of an event by values of the type that the contract expects.
fn evaluated(event: &Value) -> String {
    let mut event = event.clone();
    event["identity"]["execution"] = "arn:aws:states:eu-west-1:1:execution:load:1".into();
    event["identity"]["redrive"] = 0.into();
    event["identity"]["attempt"] = 1.into();
    event.to_string()
}

#[test]
fn the_handler_accepts_every_event() {
    use sfn_adapter::contract::statement::{Action, Request};
    for (name, pipeline) in pipelines() {
        for form in [Form::Lambda, Form::Callback] {
            let machine = generated(&pipeline, form, QueryLanguage::Jsonata).machine;
            let mut submits = 0;
            groups("", &machine.states, &mut |_, states| {
                for (state_name, state) in states {
                    let State::Task(task) = state else { continue };
                    let Some(event) = task.arguments.as_ref().and_then(|arguments| arguments.get("Payload"))
                    else {
                        continue;
                    };
                    if event["action"] == "upsert" {
                        continue;
                    }
                    let event =
                        if event["identity"].is_null() { event.to_string() } else { evaluated(event) };
                    let request = Request::parse(&event)
                        .unwrap_or_else(|error| panic!("{name}, {state_name}: {error}"));
                    if let Action::Submit(submit) = request.action {
                        submits += 1;
                        submit.statement().unwrap_or_else(|error| panic!("{name}, {state_name}: {error}"));
                    }
                }
            });
            let statements = pipeline.steps().iter().filter(|step| step.statement().is_some()).count();
            assert!(submits >= statements, "{name}");
        }
    }
}

/// Returns the task in a branch of the machine of `day`.
fn task_of_day(state: &str, language: QueryLanguage) -> Task {
    let (_, pipeline) = pipelines().into_iter().find(|(name, _)| name == "day").unwrap();
    let machine = generated(&pipeline, Form::Sdk, language).machine;
    let mut found = None;
    groups("", &machine.states, &mut |_, states| {
        if let Some(State::Task(task)) = states.get(state) {
            found = Some((**task).clone());
        }
    });
    found.unwrap()
}

#[test]
fn a_glue_job_is_started_by_the_integration_and_stopped_by_glue() {
    let start = task_of_day("clean-customer: start", QueryLanguage::Jsonata);
    assert_eq!(start.resource, "arn:aws:states:::glue:startJobRun.sync");
    let arguments = start.arguments.unwrap();
    assert_eq!(arguments["JobName"], "{% $states.input.parameters.environment & '-clean-customer' %}");
    assert_eq!(arguments["Arguments"]["--day"], "{% $states.input.parameters.day %}");
    assert_eq!(arguments["Arguments"]["--mode"], "full");
    let token = arguments["Arguments"]["--run-token"].as_str().unwrap();
    for part in ["$hash(", "Execution.Id", "RedriveCount", "/clean-customer/", "run.attempt"] {
        assert!(token.contains(part), "{token}");
    }
    // The step's timeout in minutes. The timeout of the state is a quarter of an hour longer.
    assert_eq!((&arguments["Timeout"], start.timeout_seconds), (&45.into(), Some((3_600).into())));
    let json_path = task_of_day("clean-customer: start", QueryLanguage::JsonPath).parameters.unwrap();
    assert_eq!(
        json_path["Arguments"]["--read-from.$"],
        "States.Format('s3://raw/customer/{}', $.parameters.day)"
    );
}

#[test]
fn a_start_is_retried_only_after_errors_that_prove_that_no_run_was_started() {
    for name in ["clean-customer: start", "clean-item: start"] {
        let start = task_of_day(name, QueryLanguage::Jsonata);
        let retried: Vec<_> = start.retry.iter().flat_map(|retrier| &retrier.error_equals).collect();
        let limits = ["ConcurrentRunsExceeded", "ResourceNumberLimitExceeded", "Throttling"];
        assert_eq!(retried, limits.map(|limit| format!("Glue.{limit}Exception")).iter().collect::<Vec<_>>());
    }
}

#[cfg(feature = "hudi")]
#[test]
fn the_event_of_a_hudi_table_is_one_of_the_contract() {
    use sfn_adapter::contract::hudi::{Action, Request};
    let upsert = task_of_day("address: upsert", QueryLanguage::Jsonata);
    let arguments = upsert.arguments.unwrap();
    assert_eq!(arguments["FunctionName"], "${HudiArn}");
    let files = arguments["Payload"]["files"].as_array().unwrap();
    assert_eq!(files[0], "{% 's3://raw/address/' & $states.input.parameters.day & '.csv' %}");
    let Request::Call(Action::Upsert(read)) = Request::parse(&arguments["Payload"].to_string()).unwrap()
    else {
        panic!()
    };
    assert_eq!(read.files.len(), 2);
    // A table takes in each file once, so an interrupted invocation may always be repeated.
    let retried: Vec<_> = upsert.retry.iter().flat_map(|retrier| &retrier.error_equals).collect();
    assert!(["Lambda.Unknown", "Hudi.Unknown"].iter().all(|name| retried.iter().any(|it| it == name)));
}

#[test]
fn each_table_has_a_function_of_its_own() {
    let step = |name| {
        format!("[[steps]]\nname = \"{name}\"\nhudi = {{ table = \"{name}\", files = [\"s3://raw/x\"] }}\n")
    };
    let pipeline =
        Pipeline::from_toml(&format!("name = \"p\"\n{}{}", step("customer"), step("address"))).unwrap();
    let mut options = Options::default();
    options.hudi_arn = "${HudiArn}-{table}".to_owned();
    let generated = generate(&pipeline, &options).unwrap();
    let text = generated.machine.to_json();
    assert!(text.contains("\"${HudiArn}-customer\"") && text.contains("\"${HudiArn}-address\""), "{text}");
    assert!(!text.contains("LoaderArn"), "no step is a statement");
    assert!(generated.notes.iter().any(|note| note.contains("for the tables address, customer")));
}
