//! Random pipelines, compared with a naive model of the status and the times of each step.

use std::time::Duration;

use redshift_data_local::{self as local, LocalExecutor, Script};
use redshift_orchestrator::{
    Orchestrator, Pipeline, Report, Run,
    pipeline::{OnFailure, Step},
};

/// Step of a random pipeline.
#[derive(Debug)]
struct Drawn {
    after: Vec<usize>,
    on_failure: OnFailure,
    fails: bool,
    seconds: u64,
    /// `true` if the step takes longer than its timeout and is cancelled.
    times_out: bool,
}

fn draw(rng: &mut fastrand::Rng, with_stop_signal: bool) -> (usize, Vec<Drawn>) {
    let count = rng.usize(1..12);
    let steps = (0..count).map(|number| {
        let kinds = [OnFailure::SkipDependents, OnFailure::Continue, OnFailure::Stop];
        Drawn {
            after: (0..number).filter(|_| rng.f32() < 0.25).collect(),
            on_failure: kinds[rng.usize(0..if with_stop_signal { 3 } else { 2 })],
            fails: rng.f32() < 0.3,
            seconds: rng.u64(1..40),
            times_out: rng.f32() < 0.1,
        }
    });
    let steps = steps.collect();
    (rng.usize(1..5), steps)
}

async fn run(concurrency: usize, steps: &[Drawn]) -> Report {
    let (mut script, mut builder) = (Script::new(), Pipeline::builder("p").with_concurrency(concurrency));
    for (number, drawn) in steps.iter().enumerate() {
        let sql = format!("SELECT 'step {number}.'");
        let duration = Duration::from_secs(if drawn.times_out { 500 } else { drawn.seconds });
        let ends = match drawn.fails && !drawn.times_out {
            true => local::ScriptedExecution::failed(duration, "ERROR: drawn"),
            false => local::ScriptedExecution::finished(duration),
        };
        script = script.on(format!("'step {number}.'"), ends);
        let after = drawn.after.iter().map(|number| format!("s{number}"));
        let step = Step::sql(format!("s{number}"), sql).after(after).with_on_failure(drawn.on_failure);
        builder = builder.with_step(match drawn.times_out {
            true => step.with_timeout(Duration::from_secs(drawn.seconds)),
            false => step.with_timeout(Duration::from_secs(400)),
        });
    }
    let orchestrator = Orchestrator::new(LocalExecutor::scripted(script));
    builder.build().unwrap().run(&orchestrator, Run::new("r")).await.unwrap()
}

/// Returns the expected status of each step, for a pipeline without [`OnFailure::Stop`]. It does not depend
/// on the order in which the steps run.
fn model(steps: &[Drawn]) -> Vec<&'static str> {
    let mut statuses: Vec<&'static str> = Vec::new();
    for drawn in steps {
        let holds_back = |earlier: &usize| match statuses[*earlier] {
            "finished" => false,
            "skipped" => true,
            _ => steps[*earlier].on_failure != OnFailure::Continue,
        };
        statuses.push(match drawn {
            drawn if drawn.after.iter().any(holds_back) => "skipped",
            Drawn { times_out: true, .. } => "timed out",
            Drawn { fails: true, .. } => "failed",
            _ => "finished",
        });
    }
    statuses
}

/// Returns the start and end of each step that ran.
fn times(report: &Report) -> Vec<Option<(Duration, Duration)>> {
    let of = |step: &redshift_orchestrator::pipeline::StepReport| {
        step.last_attempt().map(|attempt| (attempt.started, attempt.ended))
    };
    report.steps().iter().map(of).collect()
}

fn check_times(seed: u64, concurrency: usize, steps: &[Drawn], report: &Report) {
    let times = times(report);
    for (number, (begun, _)) in times.iter().enumerate().filter_map(|(n, time)| Some((n, (*time)?))) {
        let running =
            |at: Duration| times.iter().flatten().filter(|(from, to)| *from <= at && at < *to).count();
        assert!(running(begun) <= concurrency, "seed {seed}: too many at once");
        let earlier = steps[number].after.iter().filter_map(|earlier| times[*earlier]);
        let ready = earlier.map(|(_, ended)| ended).max().unwrap_or_default();
        assert!(ready <= begun, "seed {seed}: s{number} did not wait");
        // A step that started later than its dependencies ended must have waited because of the concurrency
        // limit.
        let full = |at: Duration| running(at) >= concurrency;
        let just_before = begun.saturating_sub(Duration::from_millis(1));
        assert!(begun == ready || full(just_before), "seed {seed}: s{number} waited for nothing");
    }
}

#[tokio::test(start_paused = true)]
async fn every_step_has_the_status_of_the_model_and_waits_only_for_its_dependencies() {
    for seed in 0..300 {
        let (concurrency, steps) = draw(&mut fastrand::Rng::with_seed(seed), false);
        let report = run(concurrency, &steps).await;
        let statuses: Vec<_> = report.steps().iter().map(|step| step.status.as_str()).collect();
        assert_eq!(statuses, model(&steps), "seed {seed}: {steps:?}");
        check_times(seed, concurrency, &steps, &report);
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_stopping_step_no_step_starts_and_no_report_is_lost() {
    let mut stopped = 0;
    for seed in 0..300 {
        let (concurrency, steps) = draw(&mut fastrand::Rng::with_seed(seed), true);
        let report = run(concurrency, &steps).await;
        check_times(seed, concurrency, &steps, &report);
        let times = times(&report);
        let stops = |number: &usize| {
            let is_over = matches!(report.steps()[*number].status.as_str(), "failed" | "timed out");
            is_over && steps[*number].on_failure == OnFailure::Stop
        };
        let first =
            (0..steps.len()).filter(stops).filter_map(|number| times[number]).map(|(_, ended)| ended).min();
        let not_started = report.steps().iter().filter(|step| step.status.as_str() == "not started").count();
        match first {
            None => assert_eq!(not_started, 0, "seed {seed}"),
            Some(ended) => {
                stopped += 1;
                assert!(
                    times.iter().flatten().all(|(begun, _)| *begun <= ended),
                    "seed {seed}: a step began after it"
                );
            }
        }
        for (step, drawn) in report.steps().iter().zip(&steps) {
            let expected = match step.status.as_str() {
                "finished" => !drawn.fails && !drawn.times_out,
                "failed" => drawn.fails && !drawn.times_out,
                "timed out" => drawn.times_out,
                "skipped" | "not started" => step.attempts.is_empty(),
                _ => false,
            };
            assert!(expected, "seed {seed}: {} is {}", step.name, step.status.as_str());
        }
    }
    assert!(stopped > 50, "{stopped} runs were stopped");
}
