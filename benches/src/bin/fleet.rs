//! How late are endings detected when 3,000 statements share an account's limit of 100 polls per second?
//!
//! 3,000 statements begin within a minute and run for 5 to 15 minutes (drawn from a seed), on a simulated
//! clock. The service accepts 100 polls in any second and throttles the others. A round trip takes 50 ms. The
//! clients are:
//!
//! * ours: one wait with long polls per statement, all of them through one [`Fleet`];
//! * ours without long polls: the same with a service that does not support them, so the pauses grow;
//! * loops with the pauses of other clients: 1, 5 and 10 seconds, and pauses that grow from 250 ms by half up
//!   to 10 seconds. Each statement has a separate loop. A throttled poll is retried like the AWS SDK's
//!   standard retry: three attempts in total, with pauses from 1 s that double, with full jitter. After the
//!   last attempt the loop continues with its next poll, whereas most real clients give up.
//!
//! Lateness is the time from the ending to the response that reports it. `throttled` counts the throttled
//! requests, which also slow down other work in the account.
//!
//! `cargo run --release -p benches --bin fleet` fails if ours is more than a second late on average or is
//! throttled. `--smoke` simulates 120 statements and 4 polls per second.

use std::{sync::Arc, time::Duration};

use anyhow::{Result, ensure};
use benches::{results::Section, simulated::Service};
use clap::Parser;
use redshift_orchestrator::{
    StatementExecutor, StatementId,
    layer::{Fleet, Request, RequestRates},
    wait::{Exponential, Fixed, LongPoll, PollStrategy, RequestCounts, Wait, WaitOutcome, WaitProgress},
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

#[derive(Parser)]
#[command(about = "Lateness of a fleet of waits under an account's rate limit, simulated")]
struct Options {
    /// Simulates 120 statements, for CI.
    #[arg(long)]
    smoke: bool,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let (count, rate) = if options.smoke { (120, 4) } else { (3_000, 100) };
    let seconds = Duration::from_secs;
    let growing = Exponential::default();
    let watchers: Vec<(&str, Watcher)> = vec![
        ("ours: LongPoll through a Fleet", Watcher::Fleet { holds: true }),
        ("ours: the same, long polls unsupported", Watcher::Fleet { holds: false }),
        ("every second", Watcher::Loop(Arc::new(Fixed::new(seconds(1))))),
        ("every 5 s", Watcher::Loop(Arc::new(Fixed::new(seconds(5))))),
        ("every 10 s (Airflow)", Watcher::Loop(Arc::new(Fixed::new(seconds(10))))),
        ("250 ms x 1.5^n to 10 s", Watcher::Loop(Arc::new(growing))),
        (
            "1 s x 2^n to 30 s (Feast)",
            Watcher::Loop(Arc::new(Exponential::new(seconds(1)).with_factor(2.0).with_max(seconds(30)))),
        ),
    ];
    let mut rows = Vec::new();
    let mut ours = None;
    for (name, watcher) in watchers {
        let seen = simulate(&watcher, count, rate)?;
        rows.push([
            name.to_owned(),
            format!("{:.2}", seen.mean()),
            format!("{:.2}", seen.percentile(0.5)),
            format!("{:.2}", seen.percentile(0.99)),
            format!("{:.1}", seen.polls as f64 / count as f64),
            seen.throttled.to_string(),
        ]);
        if ours.is_none() {
            ours = Some(seen);
        }
    }
    let input = format!(
        "{count} statements of 5 to 15 minutes, begun within a minute, {rate} Describe/s, round trip 50 ms, simulated clock"
    );
    Section::new("fleet", "How late are endings detected when 3,000 statements share an account's limit of 100 polls per second?", &input)
        .with_table(["client", "mean lateness, s", "median", "p99", "polls per statement", "throttled"], rows)
        .with_note("Limits for ours: 1 s late on average, and no throttled requests. Without long polls the rate limit dominates: 3,000 statements can be polled once in 30 s.")
        .publish(!options.smoke)?;
    if let Some(ours) = ours {
        ensure!(ours.mean() <= 1.0, "ours is {:.2} s late on average", ours.mean());
        ensure!(ours.throttled == 0, "ours was throttled {} times", ours.throttled);
    }
    Ok(())
}

enum Watcher {
    /// All waits share one fleet. `holds` is `true` if the service supports long polls.
    Fleet { holds: bool },
    /// Each statement has a separate loop, with the SDK's retry.
    Loop(Arc<dyn PollStrategy>),
}

/// Outcome of a simulation.
struct Seen {
    /// Lateness of each statement in seconds, sorted.
    late: Vec<f64>,
    polls: u64,
    throttled: u64,
}

impl Seen {
    fn mean(&self) -> f64 {
        self.late.iter().sum::<f64>() / self.late.len() as f64
    }

    fn percentile(&self, share: f64) -> f64 {
        let index = (self.late.len() as f64 * share) as usize;
        self.late[index.min(self.late.len() - 1)]
    }
}

fn simulate(watcher: &Watcher, count: usize, rate: usize) -> Result<Seen> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    runtime.block_on(async {
        let mut draw = fastrand::Rng::with_seed(1);
        let begun = Instant::now();
        // Times at which each statement begins and ends. The id of a statement is its index.
        let statements: Vec<(Instant, Instant)> = (0..count)
            .map(|_| {
                let begins = begun + Duration::from_secs_f64(draw.f64() * 60.0);
                (begins, begins + Duration::from_secs_f64(300.0 + draw.f64() * 600.0))
            })
            .collect();
        let service = Service::new(statements.iter().map(|(_, ends)| *ends).collect()).with_rate(rate);
        let service = Arc::new(match watcher {
            Watcher::Fleet { holds: false } => service.without_holding(),
            _ => service,
        });
        let rates = RequestRates::default().with(Request::DescribeStatement, rate as u32);
        let fleet = Arc::new(Fleet::new(service.clone()).with_rates(rates));
        let mut waits = JoinSet::new();
        for (number, (begins, ends)) in statements.into_iter().enumerate() {
            let id = Service::id(number);
            match watcher {
                Watcher::Fleet { .. } => {
                    let fleet = fleet.clone();
                    waits.spawn(async move {
                        sleep_until(begins).await;
                        let strategy = LongPoll::default();
                        let wait = Wait::new(&fleet, &id, &strategy);
                        let ending = wait.until_ended(&mut RequestCounts::default()).await;
                        matches!(ending, WaitOutcome::Ended(_)).then(|| ends.elapsed())
                    });
                }
                Watcher::Loop(strategy) => {
                    let (strategy, service) = (strategy.clone(), service.clone());
                    let draw = fastrand::Rng::with_seed(number as u64);
                    waits.spawn(async move {
                        sleep_until(begins).await;
                        poll(&service, &id, &*strategy, draw).await;
                        Some(ends.elapsed())
                    });
                }
            }
        }
        let mut late = Vec::new();
        while let Some(one) = waits.join_next().await {
            let one = one?;
            ensure!(one.is_some(), "a wait ended before its statement");
            late.extend(one.map(|late| late.as_secs_f64()));
        }
        late.sort_by(f64::total_cmp);
        Ok(Seen { late, polls: service.polls(), throttled: service.throttled() })
    })
}

/// Polls like another client's loop, with the SDK's standard retry for each poll.
async fn poll(service: &Service, id: &StatementId, strategy: &dyn PollStrategy, mut draw: fastrand::Rng) {
    let mut progress = WaitProgress::default();
    loop {
        sleep(strategy.next(&progress).pause).await;
        for attempt in 0..3 {
            match service.describe(id, None).await {
                Ok(description) if description.status.is_terminal() => return,
                Ok(_) => break,
                Err(_) if attempt < 2 => sleep(Duration::from_secs(1 << attempt).mul_f64(draw.f64())).await,
                Err(_) => {}
            }
        }
        progress.polls += 1;
    }
}
