//! How late is the end of a statement detected, and how many polls does that cost?
//!
//! Our strategies and the published polling schedules of other Redshift Data API clients run on a simulated
//! clock. A round trip takes 50 ms, the service responds to a long poll when the statement ends, and
//! statements take 0.3 s to 4 h. Each cell is `polls / lateness`. For a client that gives up before the
//! statement ends, the cell contains the time at which it gives up.
//!
//! `cargo run --release -p benches --bin polling` fails if the default strategy is late by more than one
//! round trip or polls more often than once in 30 seconds.

use std::time::Duration;

use anyhow::{Result, ensure};
use benches::{
    results::Section,
    simulated::{ROUND_TRIP, Service},
};
use clap::Parser;
use redshift_orchestrator::{
    StatementExecutor, WaitTime,
    wait::{Exponential, Fixed, Jittered, Learned, LongPoll, PollStrategy, RequestCounts, Wait, WaitOutcome},
};
use tokio::time::{Instant, sleep};

#[derive(Parser)]
#[command(about = "Lateness and number of polls of polling strategies, simulated")]
struct Options {
    /// Does not update the results page, for CI.
    #[arg(long)]
    smoke: bool,
}

/// Durations of the statements in seconds.
const DURATIONS: [f64; 8] = [0.3, 2.0, 8.0, 45.0, 219.0, 300.0, 1_800.0, 14_400.0];

fn main() -> Result<()> {
    let options = Options::parse();
    let mut rows: Vec<_> =
        peers().iter().map(|peer| row(&peer.name, |takes| simulate(peer.clone().watch(takes)))).collect();
    for (name, strategy) in [
        ("ours: Fixed, 5 s", Box::new(Fixed::new(seconds(5.0))) as Box<dyn PollStrategy>),
        ("ours: Exponential", Box::new(Exponential::default())),
        ("ours: Exponential, jitter 10 %", Box::new(Jittered::new(Exponential::default(), 1))),
        ("ours: Learned, 5 % longer than before", Box::new(Learned::default())),
        ("ours: LongPoll, the default", Box::new(LongPoll::default())),
    ] {
        rows.push(row(name, |takes| simulate(ours(&*strategy, takes))));
    }
    let mut header: [String; 9] = Default::default();
    header[0] = "polls / lateness".to_owned();
    for (cell, takes) in header[1..].iter_mut().zip(DURATIONS) {
        *cell = format!("{takes} s");
    }
    let input =
        "statements of 0.3 s to 4 h, round trip 50 ms, simulated clock; published schedules of other clients";
    Section::new("polling", "How late is the end of a statement detected, and how many polls does that cost?", input)
        .with_table(header.each_ref().map(String::as_str), rows)
        .with_note("Limits for the default: one round trip late, one poll in each 30 seconds begun. The submit does not count as a poll, for any client.")
        .publish(!options.smoke)?;
    for takes in DURATIONS {
        let Measured::Known { polls, late } = simulate(ours(&LongPoll::default(), seconds(takes))) else {
            anyhow::bail!("the default strategy gave up");
        };
        // tokio's timer has a resolution of 1 ms.
        ensure!(late <= ROUND_TRIP + Duration::from_millis(2), "{late:?} late after {takes} s");
        ensure!(f64::from(polls) <= (takes / 30.0).ceil(), "{polls} polls for {takes} s");
    }
    Ok(())
}

fn row(name: &str, measure: impl Fn(Duration) -> Measured) -> [String; 9] {
    let mut row: [String; 9] = Default::default();
    row[0] = name.to_owned();
    for (cell, takes) in row[1..].iter_mut().zip(DURATIONS) {
        *cell = match measure(seconds(takes)) {
            Measured::Known { polls, late } => format!("{polls} / {:.2} s", late.as_secs_f64()),
            Measured::GaveUp { polls, after } => {
                format!("{polls} / gave up at {:.0} s", after.as_secs_f64())
            }
        };
    }
    row
}

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// Outcome of polling one statement.
#[derive(Clone, Debug)]
enum Measured {
    Known { polls: u32, late: Duration },
    GaveUp { polls: u32, after: Duration },
}

/// Runs a future on a separate simulated clock.
fn simulate<T>(future: impl Future<Output = Result<T>>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(future)).unwrap_or_else(
        |error| {
            eprintln!("the simulation failed: {error:#}");
            std::process::exit(1)
        },
    )
}

/// Polls a statement with one of our strategies.
async fn ours(strategy: &dyn PollStrategy, takes: Duration) -> Result<Measured> {
    let begun = Instant::now();
    let service = Service::new(vec![begun + takes]);
    let (id, mut requests) = (Service::id(0), RequestCounts::default());
    let before = takes.div_f64(1.05);
    let wait = Wait::new(&service, &id, strategy).with_expected(Some(before));
    let ending = wait.until_ended(&mut requests).await;
    ensure!(matches!(ending, WaitOutcome::Ended(_)), "{ending:?}");
    Ok(Measured::Known { polls: requests.describes, late: begun.elapsed() - takes })
}

/// The loop of another client, modelled on its source code.
#[derive(Clone)]
struct Peer {
    name: String,
    /// Pause before the first poll.
    first: Duration,
    /// Pause after poll number `n`, counted from 1.
    pause: fn(u32) -> Duration,
    max_polls: Option<u32>,
    limit: Option<Duration>,
    /// Number of further polls that the client sends after it has seen the ending.
    extra: u32,
    wait: Option<WaitTime>,
}

impl Peer {
    fn new(name: &str, first: f64, pause: fn(u32) -> Duration) -> Self {
        let (max_polls, limit, wait) = (None, None, None);
        Self { name: name.to_owned(), first: seconds(first), pause, max_polls, limit, extra: 0, wait }
    }

    fn giving_up_after(mut self, limit: f64) -> Self {
        self.limit = Some(seconds(limit));
        self
    }

    fn with_max_polls(mut self, polls: u32) -> Self {
        self.max_polls = Some(polls);
        self
    }

    fn with_extra_polls(mut self, extra: u32) -> Self {
        self.extra = extra;
        self
    }

    fn holding(mut self) -> Self {
        self.wait = Some(WaitTime::MAX);
        self
    }

    async fn watch(self, takes: Duration) -> Result<Measured> {
        let begun = Instant::now();
        let service = Service::new(vec![begun + takes]);
        let id = Service::id(0);
        if self.wait.is_some() {
            // The service also holds the client's submit, which does not count as a poll.
            let submitted = service.describe(&id, self.wait).await?;
            if submitted.status.is_terminal() {
                sleep(ROUND_TRIP).await;
                return Ok(Measured::Known { polls: 1, late: begun.elapsed() - ROUND_TRIP - takes });
            }
        }
        let mut polls = 0;
        loop {
            sleep(if polls == 0 { self.first } else { (self.pause)(polls) }).await;
            let given_up = self.limit.is_some_and(|limit| begun.elapsed() > limit);
            if given_up || self.max_polls.is_some_and(|most| polls >= most) {
                return Ok(Measured::GaveUp { polls, after: begun.elapsed() });
            }
            polls += 1;
            if service.describe(&id, self.wait).await?.status.is_terminal() {
                let late = begun.elapsed() - takes;
                return Ok(Measured::Known { polls: polls + self.extra, late });
            }
        }
    }
}

/// Returns a pause that grows with each poll.
fn growing(first: f64, factor: f64, most: f64, number: u32) -> Duration {
    seconds((first * factor.powf(f64::from(number - 1))).min(most))
}

/// Returns the published schedules, read from each client's source code in November 2026.
fn peers() -> Vec<Peer> {
    vec![
        Peer::new("Airflow operator, 10 s", 0.0, |_| seconds(10.0)).with_extra_polls(1),
        Peer::new("Airflow deferrable, 10 s", 0.0, |_| seconds(10.0)).with_extra_polls(3),
        Peer::new("awswrangler, 0.25 x 1.5^n, 16 times", 0.0, |n| growing(0.25, 1.5, f64::MAX, n))
            .with_max_polls(16)
            .with_extra_polls(1),
        Peer::new("mashiike driver, 10 ms", 0.0, |_| seconds(0.01)).giving_up_after(900.0),
        Peer::new("jitsu, 10 ms x 2^n to 5 s", 0.01, |n| growing(0.02, 2.0, 5.0, n)),
        Peer::new("Grafana backend, 0.2 x 1.1^n", 0.0, |n| growing(0.2, 1.1, 600.0, n)),
        Peer::new("Grafana UI, 20 ms x 2^n to 10 s", 0.0, |n| growing(0.02, 2.0, 10.0, n)),
        Peer::new("Feast, 1 s x 2^n to 30 s", 0.0, |n| growing(1.0, 2.0, 30.0, n)),
        Peer::new("Terraform, 30 s, then 10 s", 30.0, |_| seconds(10.0))
            .with_extra_polls(1)
            .giving_up_after(600.0),
        Peer::new("CDK, 100 ms, 1 min", 0.1, |_| seconds(0.1)).giving_up_after(60.0),
        Peer::new("Step Functions sample, 5 s", 5.0, |_| seconds(5.0)),
        Peer::new("Lambda sample, 10 s", 10.0, |_| seconds(10.0)),
        Peer::new("AWS quick start, 1 s, 21 times", 0.0, |_| seconds(1.0)).with_max_polls(21),
        Peer::new("faucet, 50 ms x 2^n to 1 s", 0.0, |n| growing(0.05, 2.0, 1.0, n)),
        Peer::new("skippr, connector-x, 1 s", 0.0, |_| seconds(1.0)),
        Peer::new("awslabs MCP server, held 30 s, 1 s", 1.0, |_| seconds(1.0))
            .holding()
            .giving_up_after(3_600.0),
    ]
}
