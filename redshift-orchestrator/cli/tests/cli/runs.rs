//! Tests of runs that finish, are repeated, are killed, or are settled.

use crate::support::{PIPELINE, Stage};

#[test]
fn a_repeated_run_is_reported_and_submits_nothing() {
    let stage = Stage::new(PIPELINE, "[[statement]]\ncontains = 'UPDATE'\nrows = 3");
    let run = ["run", "load.toml", "--run-id", "a", "-p", "cycle=7"];
    let done =
        stage.call(&[&run[..], &["--report", "r.json", "--report", "r.svg", "--report", "r.html"]].concat());
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.out.starts_with("row, run a: 3 finished in"), "{}", done.out);
    assert!(done.err.contains("one  submitted: ") && done.err.contains("three  finished"), "{}", done.err);
    let report: serde_json::Value = serde_json::from_str(&stage.read("r.json")).unwrap();
    assert_eq!(report["steps"][2]["status"], "finished");
    assert!(stage.read("r.svg").starts_with("<svg") && stage.read("r.html").contains("<svg"));
    let again = stage.call(&[&run[..], &["--json"]].concat());
    let objects = again.objects();
    assert_eq!((again.code, again.err.as_str()), (Some(0), ""));
    assert_eq!(objects[0]["event"], "begun");
    let last = objects.last().unwrap();
    assert_eq!((&last["event"], &last["success"]), (&"report".into(), &true.into()));
    assert!(objects.iter().all(|object| object["event"] != "submitted"), "{objects:?}");
    let other = stage.call(&["run", "load.toml", "--run-id", "a", "-p", "cycle=8"]);
    assert_eq!(other.code, Some(2));
    assert!(other.err.contains("a different value of `cycle`"), "{}", other.err);
}

#[test]
fn every_event_is_one_object_per_line() {
    let script = "[[statement]]\ncontains = 'two'\nruns = [{ fails = 'ERROR: deadlock detected' }, {}]";
    let pipeline = PIPELINE.replace(
        "after = [\"one\"]",
        "after = [\"one\"]\nretry = { attempts = 2, on = [\"deadlock\"], backoff = \"1ms\" }",
    );
    let stage = Stage::new(&pipeline, script);
    let done = stage.call(&["run", "load.toml", "-p", "cycle=7", "--json"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    let objects = done.objects();
    assert!(objects.iter().all(|object| object["at"].is_string() && object["event"].is_string()));
    let events: Vec<_> = objects
        .iter()
        .filter(|object| object["step"] == "two" && object["event"] != "status")
        .map(|object| format!("{} {}", object["event"].as_str().unwrap(), object["attempt"]))
        .collect();
    assert_eq!(events, ["submitted 1", "ended 1", "step-retried 1", "submitted 2", "ended 2"]);
}

/// Regression guard: programs read these fields, so renaming or removing one is a breaking change.
#[test]
fn objects_have_the_fields_listed_in_the_guide() {
    let script = "[[statement]]\ncontains = 'two'\nfails = 'ERROR: deadlock detected'";
    let pipeline = PIPELINE.replace(
        "after = [\"one\"]",
        "after = [\"one\"]\nretry = { attempts = 2, on = [\"deadlock\"], backoff = \"1ms\" }",
    );
    let stage = Stage::new(&pipeline, script);
    let run = ["run", "load.toml", "--run-id", "a", "-p", "cycle=7", "--json"];
    let mut objects = stage.call(&run).objects();
    let away =
        [&run[..3], &["b"], &run[4..], &["--endpoint-url", "http://127.0.0.1:1", "--retry-timeout", "1s"]];
    objects.extend(Stage::without_emulator(PIPELINE).call(&away.concat()).objects());
    objects.extend(stage.call(&["validate", "load.toml", "--json"]).objects());
    let of_step = |more: &str| format!("at attempt event run step {more}");
    let expected = [
        ("begun", "at event pipeline run".to_owned()),
        ("submitted", of_step("reattached statement_id")),
        ("status", of_step("status")),
        ("request-retried", of_step("error kind")),
        ("ended", of_step("executing failure result statement_id text")),
        ("not-submitted", of_step("error kind")),
        ("step-retried", of_step("failure pause")),
        ("skipped", of_step("because_of")),
        ("report", "at event report success".to_owned()),
        ("valid", "at event pipeline steps".to_owned()),
    ];
    let guide = std::fs::read_to_string(crate::support::repository("docs/pipelines.md")).unwrap();
    for (event, fields) in expected {
        let object = objects.iter().find(|object| object["event"] == event);
        let object = object.unwrap_or_else(|| panic!("no {event} in {objects:?}")).as_object().unwrap();
        let mut fields: Vec<_> = fields.split_whitespace().collect();
        fields.sort_unstable();
        let mut found: Vec<_> = object.keys().map(String::as_str).collect();
        found.sort_unstable();
        assert_eq!(found, fields, "{event}");
        // A step state can have the same name as an event, and its row is in another table of the guide.
        let rows: Vec<_> = guide.lines().filter(|line| line.starts_with(&format!("| `{event}`"))).collect();
        let common = ["at", "event", "run", "step", "attempt"];
        let own = fields.iter().filter(|field| !common.contains(field));
        let own: Vec<_> = own.map(|field| format!("`{field}`")).collect();
        assert!(
            rows.iter().any(|row| own.iter().all(|field| row.contains(field))),
            "{event}: {own:?} in {rows:?}"
        );
    }
}

#[test]
fn a_failed_run_resumes_with_its_unfinished_steps() {
    let stage = Stage::new(
        PIPELINE,
        "[[statement]]\ncontains = 'two'\nruns = [{ fails = 'ERROR: no such table' }, {}]",
    );
    let done = stage.call(&["run", "load.toml", "--run-id", "a", "-p", "cycle=7"]);
    assert_eq!(done.code, Some(1));
    assert!(done.out.contains("ERROR: no such table") && done.out.contains("because of two"), "{}", done.out);
    let status = stage.call(&["status", "load.toml"]);
    assert!(status.out.contains("a  row  failed") && status.out.contains("two/1  failed"), "{}", status.out);
    // `resume` uses the parameters of the first process.
    let done = stage.call(&["resume", "load.toml"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    let status = stage.call(&["status", "load.toml", "--run-id", "a", "--json"]).objects().remove(0);
    assert_eq!(status["state"], "finished");
    let steps: Vec<_> =
        status["steps"].as_array().unwrap().iter().map(|step| step["state"].clone()).collect();
    assert_eq!(steps, ["finished", "failed", "finished", "finished"], "in the order of their intents");
    let done = stage.call(&["resume", "load.toml"]);
    assert_eq!(done.code, Some(2));
    assert!(done.err.contains("every run in the journal has finished"), "{}", done.err);
}

#[cfg(unix)]
#[test]
fn a_run_excludes_others_until_its_process_is_dead_and_is_then_resumed() {
    let stage = Stage::new(PIPELINE, "[[statement]]\ncontains = 'two'\ntakes = '2s'");
    let mut going = stage.start(&["run", "load.toml", "--run-id", "a", "-p", "cycle=7"]);
    going.until("two  submitted");
    let refused = stage.call(&["run", "load.toml", "--run-id", "b", "-p", "cycle=8"]);
    assert_eq!(refused.code, Some(4), "{refused:?}");
    assert!(refused.err.contains("active_run: a, active_since: 20"), "{}", refused.err);
    let refused = stage.call(&["prune", "load.toml", "--keep", "1d"]);
    assert_eq!(refused.code, Some(4), "{refused:?}");
    assert!(refused.err.contains("remove old runs when that process has ended"), "{}", refused.err);
    let status = stage.call(&["status", "load.toml"]);
    assert!(status.out.contains("a  row  active"), "{}", status.out);
    let settle =
        stage.call(&["settle", "load.toml", "two", "--run-id", "a", "--as", "finished", "--because", "x"]);
    assert_eq!(settle.code, Some(4), "{settle:?}");
    assert_eq!(killed(going).code, None);
    let status = stage.call(&["status", "load.toml"]);
    assert!(status.out.contains("a  row  died") && status.out.contains("two/1  submitted"), "{}", status.out);
    let done = stage.call(&["resume", "load.toml", "--json"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    let submitted: Vec<_> =
        done.objects().into_iter().filter(|object| object["event"] == "submitted").collect();
    assert_eq!(submitted.len(), 1, "only `three` had not been submitted: {submitted:?}");
    assert_eq!(submitted[0]["step"], "three");
}

#[cfg(unix)]
#[test]
fn a_run_waits_for_another_with_the_queue_option() {
    let stage = Stage::new(PIPELINE, "[[statement]]\ncontains = 'two'\ntakes = '1s'");
    let mut first = stage.start(&["run", "load.toml", "--run-id", "a", "-p", "cycle=7"]);
    first.until("two  submitted");
    let second = stage.call(&["run", "load.toml", "--run-id", "b", "-p", "cycle=8", "--queue"]);
    assert_eq!(second.code, Some(0), "{second:?}");
    assert_eq!(first.done().code, Some(0));
}

#[cfg(unix)]
#[test]
fn an_unknown_step_is_listed_settled_and_resumed() {
    let mut stage = Stage::new(PIPELINE, "[[statement]]\ncontains = 'two'\ntakes = '60s'");
    let named = ["--service-name", "dwh"];
    let run = ["run", "load.toml", "--run-id", "a", "-p", "cycle=7"];
    let mut going = stage.start(&[&run[..], &named].concat());
    going.until("two  submitted");
    killed(going);
    // The restarted service has lost all records.
    stage.restart("");
    let done = stage.call(&[&["resume", "load.toml"][..], &named].concat());
    assert_eq!(done.code, Some(3), "{done:?}");
    assert!(done.out.contains("look at") && done.out.contains("sys_query_history"), "{}", done.out);
    let status = stage.call(&["status", "load.toml"]);
    assert!(status.out.contains("1 unknown") && status.out.contains("sys_query_history"), "{}", status.out);
    let settle = |found: &str| {
        stage.call(&[
            "settle",
            "load.toml",
            "two",
            "--run-id",
            "a",
            "--as",
            found,
            "--because",
            "the rows are there",
        ])
    };
    assert_eq!(settle("finished").code, Some(0));
    let again = settle("failed");
    assert_eq!(again.code, Some(2));
    assert!(again.err.contains("this attempt has already ended"), "{}", again.err);
    assert!(
        stage
            .read("load.toml.journal")
            .contains(r#""found":"finished","by":"ada","because":"the rows are there""#)
    );
    let done = stage.call(&[&["resume", "load.toml", "--run-id", "a"][..], &named].concat());
    assert_eq!(done.code, Some(0), "{done:?}");
}

#[test]
fn tags_and_names_select_steps_also_when_a_run_is_resumed() {
    let stage = Stage::new(PIPELINE, "[[statement]]\ncontains = 'one'\nruns = [{ fails = 'ERROR: no' }, {}]");
    let done =
        stage.call(&["run", "load.toml", "-p", "cycle=7", "--tags", "first", "--only", "three", "--json"]);
    assert_eq!(done.code, Some(1));
    let done = stage.call(&["resume", "load.toml", "--json"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    let report = done.objects().pop().unwrap();
    let statuses: Vec<_> =
        report["report"]["steps"].as_array().unwrap().iter().map(|step| step["status"].clone()).collect();
    assert_eq!(statuses, ["finished", "not-selected", "finished"]);
}

#[test]
fn sql_and_values_are_shown_only_on_request() {
    let stage = Stage::new(PIPELINE, "[[statement]]\ncontains = 'two'\nfails = 'ERROR: no'");
    let mut seen = String::new();
    for arguments in [
        &["run", "load.toml", "--run-id", "a", "-p", "cycle=hush"][..],
        &["resume", "load.toml", "--json", "--report", "r.html"],
        &["plan", "load.toml", "-p", "cycle=hush"],
        &["plan", "load.toml", "--format", "json"],
        &["status", "load.toml", "--run-id", "a"],
        &["status", "load.toml", "--json"],
    ] {
        let done = stage.call(arguments);
        seen += &format!("{}{}", done.out, done.err);
    }
    seen += &stage.read("r.html");
    assert!(!seen.contains("classified") && !seen.contains("hush"), "{seen}");
    let asked = stage.call(&["plan", "load.toml", "--show-sql"]);
    assert!(asked.out.contains("UPDATE two SET classified = 1;"), "{}", asked.out);
}

#[cfg(unix)]
#[test]
fn a_run_continues_when_its_output_is_closed() {
    let stage = Stage::new(PIPELINE, "");
    for (number, arguments) in [&["--no-progress"][..], &["--json"]].into_iter().enumerate() {
        let id = format!("r{number}");
        let run = [&["run", "load.toml", "--run-id", &id, "-p", "cycle=7"], arguments].concat();
        assert_eq!(stage.call_unheard(&run), Some(0), "{arguments:?}");
        let status = stage.call(&["status", "load.toml", "--run-id", &id]);
        assert!(status.out.contains(&format!("{id}  row  finished")), "{}", status.out);
    }
}

#[cfg(unix)]
fn killed(mut going: crate::support::Going) -> crate::support::Done {
    going.signal("KILL");
    going.done()
}

#[test]
fn status_lists_pages_of_runs_newest_first() {
    let stage = Stage::new(PIPELINE, "");
    for id in ["a", "b", "c"] {
        assert_eq!(stage.call(&["run", "load.toml", "--run-id", id, "-p", "cycle=7"]).code, Some(0));
    }
    let ids = |done: &crate::support::Done| {
        done.out.lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let first = stage.call(&["status", "load.toml", "--limit", "2"]);
    assert_eq!(ids(&first), ["c", "b"], "{first:?}");
    let after = first.err.split('\'').nth(1).unwrap();
    let second = stage.call(&["status", "load.toml", "--limit", "2", "--after", after]);
    assert_eq!((ids(&second), second.err.as_str()), (vec!["a".to_owned()], ""));
    let all = stage.call(&["status", "load.toml", "--limit", "2", "--all"]);
    assert_eq!(ids(&all), ["c", "b", "a"]);
    let objects = stage.call(&["status", "load.toml", "--json", "--limit", "1"]).objects();
    let after = objects[0]["cursor"].as_str().unwrap();
    let next = stage.call(&["status", "load.toml", "--json", "--limit", "1", "--after", after]).objects();
    assert_eq!(next[0]["run"], "b");
}

#[test]
fn prune_removes_old_finished_runs() {
    let stage = Stage::new(PIPELINE, "[[statement]]\ncontains = 'two'\nruns = [{}, { fails = 'ERROR: no' }]");
    assert_eq!(stage.call(&["run", "load.toml", "--run-id", "good", "-p", "cycle=7"]).code, Some(0));
    assert_eq!(stage.call(&["run", "load.toml", "--run-id", "bad", "-p", "cycle=8"]).code, Some(1));
    let young = stage.call(&["prune", "load.toml", "--keep", "90d"]);
    assert_eq!((young.code, young.out.as_str()), (Some(0), "removed 0 runs\n"), "{young:?}");
    let before = stage.read("load.toml.journal");
    let dry = stage.call(&["prune", "load.toml", "--keep", "0s", "--dry-run"]);
    let kept = "kept 1 run old enough to be removed\n    bad  failed\n";
    assert_eq!(dry.out, format!("would remove 1 run\n    good\n{kept}"), "{dry:?}");
    assert_eq!(stage.read("load.toml.journal"), before);
    let done = stage.call(&["prune", "load.toml", "--keep", "0s"]);
    assert_eq!(done.out, format!("removed 1 run\n    good\n{kept}"), "{done:?}");
    let status = stage.call(&["status", "load.toml"]);
    assert!(status.out.starts_with("bad  row  failed") && !status.out.contains("good"), "{status:?}");
    assert!(!stage.read("load.toml.journal").contains("good"));
    let json = stage.call(&["prune", "load.toml", "--keep", "0s", "--failed", "--json"]).objects().remove(0);
    assert_eq!((&json["removed"][0], &json["dry_run"]), (&"bad".into(), &false.into()));
    assert_eq!(stage.call(&["status", "load.toml"]).out, "no runs\n");
    let wrong = stage.call(&["prune", "load.toml", "--keep", "90"]);
    assert!(wrong.code == Some(2) && wrong.err.contains("such as 90d"), "{wrong:?}");
}

/// Regression: the journal recorded neither the URL nor the region of the service. On a second service, the
/// run was reported as finished although it had not run there.
#[test]
fn a_run_of_another_service_is_refused() {
    let mut stage = Stage::new(PIPELINE, "");
    let run = ["run", "load.toml", "--run-id", "a", "-p", "cycle=7"];
    let west = ["--region", "eu-west-1"];
    assert_eq!(stage.call(&[&run[..], &west].concat()).code, Some(0));
    let refused = stage.call(&[&run[..], &["--region", "us-east-1"]].concat());
    assert_eq!((refused.code, refused.out.as_str()), (Some(2), ""), "{refused:?}");
    assert!(refused.err.contains(":eu-west-1:cluster/local/dev"), "{}", refused.err);
    assert!(refused.err.contains(":us-east-1:cluster/local/dev"), "{}", refused.err);
    assert_eq!(stage.call(&[&run[..], &west].concat()).code, Some(0));
    let before = stage.emulator_url();
    stage.restart("");
    for command in [&run[..], &["resume", "load.toml", "--run-id", "a"]] {
        let refused = stage.call(&[command, &west].concat());
        assert_eq!((refused.code, refused.out.as_str()), (Some(2), ""), "{refused:?}");
        let advice = format!("add --service-name '{before}:eu-west-1' if both are the same database");
        assert!(refused.err.contains(&advice), "{}", refused.err);
    }
    // The name is the way out for a service with a new URL.
    let named = format!("{before}:eu-west-1");
    let done = stage.call(&[&run[..], &["--service-name", &named, "--json"]].concat());
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.objects().iter().all(|object| object["event"] != "submitted"), "{done:?}");
}

/// Earlier versions recorded `endpoint:cluster/local/dev` for every endpoint.
#[test]
fn a_run_of_an_earlier_version_continues_under_its_name() {
    let stage = Stage::new(PIPELINE, "[[statement]]\ncontains = 'one'\nruns = [{ fails = 'ERROR: no' }, {}]");
    let early = ["--service-name", "endpoint"];
    let run = ["run", "load.toml", "--run-id", "a", "-p", "cycle=7"];
    assert_eq!(stage.call(&[&run[..], &early].concat()).code, Some(1));
    assert!(stage.read("load.toml.journal").contains(r#""target":"endpoint:cluster/local/dev""#));
    let refused = stage.call(&["resume", "load.toml"]);
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.err.contains("add --service-name 'endpoint'"), "{}", refused.err);
    assert_eq!(stage.call(&[&["resume", "load.toml"][..], &early].concat()).code, Some(0));
}
