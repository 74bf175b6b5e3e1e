//! Reports and plans with unusual names and messages are well-formed documents.

use std::time::Duration;

use redshift_data_local::{self as local, LocalExecutor, Script};
use redshift_orchestrator::{Orchestrator, Pipeline, Report, Run, pipeline::Step};

const ODD: [&str; 8] = [
    "<script>alert('1')</script>",
    "a & b \"quoted\" 'too' `and` #35; ]]> <!--",
    "日本語の手順 🚀 ñ",
    "\u{202e}from right to left",
    "\u{fffe}\u{ffff}",
    "%s {} ${x} \\n",
    " ",
    "--",
];

async fn report() -> (Pipeline, Report) {
    let long = "w".repeat(200);
    let error = "ERROR: \u{1b}[2J\u{0}\u{7}<b>&amp;</b> ]]>\n\tsecond line \u{fffe}";
    let script = Script::new()
        .on("broken", local::ScriptedExecution::failed(Duration::from_secs(1_000), error))
        .otherwise(local::ScriptedExecution::finished(Duration::ZERO));
    let mut builder = Pipeline::builder("<p> & \"q\"").with_concurrency(1);
    for (number, name) in ODD.into_iter().chain([long.as_str()]).enumerate() {
        builder = builder.with_step(Step::sql(name, "SELECT 'broken'"));
        builder = builder.with_step(Step::sql(format!("behind {number}"), "SELECT 1").after([name]));
    }
    let pipeline = builder.build().unwrap();
    let orchestrator = Orchestrator::new(LocalExecutor::scripted(script));
    let report = pipeline.run(&orchestrator, Run::new("</text><r>")).await.unwrap();
    (pipeline, report)
}

/// Panics unless the text is a single well-formed XML element without forbidden characters.
fn check_xml(text: &str) {
    let forbidden =
        |c: char| (c.is_control() && !matches!(c, '\n' | '\t')) || matches!(c, '\u{fffe}' | '\u{ffff}');
    assert!(!text.contains(forbidden), "a character that XML forbids");
    let mut open: Vec<&str> = Vec::new();
    let mut pieces = text.split('<');
    assert_eq!(pieces.next(), Some(""), "text before the first tag");
    for piece in pieces {
        let (tag, between) = piece.split_once('>').expect("a tag is closed");
        assert_eq!(tag.matches('"').count() % 2, 0, "quotes match: {tag}");
        match tag.strip_prefix('/') {
            Some(name) => assert_eq!(open.pop(), Some(name)),
            None if tag.ends_with('/') => {}
            None => open.push(tag.split(' ').next().unwrap()),
        }
        for entity in [tag, between].iter().flat_map(|text| text.split('&').skip(1)) {
            let known = ["amp;", "lt;", "gt;", "quot;"];
            assert!(known.iter().any(|known| entity.starts_with(known)), "an entity: &{entity}");
        }
        assert!(!open.is_empty() || between.trim().is_empty(), "text behind the last tag: {between}");
    }
    assert!(open.is_empty(), "{open:?} are not closed");
}

#[tokio::test(start_paused = true)]
async fn a_gantt_chart_is_valid_with_any_names_and_errors() {
    let (_, report) = report().await;
    let svg = report.to_svg();
    check_xml(&svg);
    assert!(!svg.contains("<script") && svg.contains("&lt;script&gt;"));
    let numbers = svg.split([' ', '"']).filter_map(|text| text.parse::<f64>().ok());
    assert!(numbers.clone().count() > 100 && numbers.into_iter().all(f64::is_finite));
    assert!(!svg.contains("NaN") && !svg.contains("inf"));
}

#[tokio::test(start_paused = true)]
async fn a_text_report_escapes_control_characters_and_json_keeps_them() {
    let (_, report) = report().await;
    let text = report.to_string();
    assert!(!text.contains('\u{1b}') && !text.contains('\u{0}') && text.contains("second line"), "{text}");
    let json = report.to_json();
    for (name, step) in ODD.iter().zip(json["steps"].as_array().unwrap().iter().step_by(2)) {
        assert_eq!(step["name"], *name);
    }
    assert!(json["steps"][0]["attempts"][0]["error"].as_str().unwrap().contains("\u{1b}[2J"));
}

#[tokio::test(start_paused = true)]
async fn a_plan_with_unusual_names_is_a_valid_table_and_chart() {
    let (pipeline, _) = report().await;
    let plan = pipeline.plan();
    assert_eq!(plan.to_string().lines().count(), 1 + pipeline.steps().len());
    let chart = plan.to_mermaid();
    for line in chart.lines().filter(|line| line.contains('[')) {
        assert_eq!(line.matches('"').count(), 2, "{line}");
        assert!(!line.contains('<') && !line.contains('`'), "{line}");
    }
}

#[tokio::test(start_paused = true)]
async fn runs_of_no_time_and_of_many_days_are_drawn() {
    for seconds in [0, 1, 86_000] {
        let script =
            Script::new().otherwise(local::ScriptedExecution::finished(Duration::from_secs(seconds)));
        let pipeline = (0..3)
            .fold(Pipeline::builder("p").with_concurrency(1), |builder, n| {
                builder.with_step(Step::sql(format!("s{n}"), format!("SELECT {n}")))
            })
            .build()
            .unwrap();
        let orchestrator = Orchestrator::new(LocalExecutor::scripted(script));
        let svg = pipeline.run(&orchestrator, Run::new("r")).await.unwrap().to_svg();
        check_xml(&svg);
        assert!(svg.matches("class=\"grid\"").count() < 20, "a readable number of lines");
    }
}
