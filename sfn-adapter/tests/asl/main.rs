//! Generated state machines: pinned definitions, and facts that hold for each form and query language.

#![allow(clippy::unwrap_used)]

use std::{collections::BTreeSet, fs, path::PathBuf};

use redshift_orchestrator::Pipeline;
use serde_json::Value;
use sfn_adapter::asl::{
    Form, Generated, Options, QueryLanguage, generate, mocks,
    model::{State, States},
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

/// Calls `visit` with each group of states, and the name of its first one.
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
        let pinned = |name: &str| name.starts_with("one-") || name.starts_with("sales-lambda");
        for (name, generated) in all().into_iter().filter(|(name, _)| pinned(name)) {
            let notes: String = generated.notes.iter().map(|note| format!("{note}\n")).collect();
            insta::assert_snapshot!(name, format!("{}{notes}", generated.machine.to_json()));
        }
    });
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
    // A branch that fails stops its siblings, and their statements run on unwatched.
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
            assert!(submits >= pipeline.steps().len(), "{name}");
        }
    }
}
