//! Promises 1 and 2, over schedules drawn from seeds.

use super::simulation::{Tally, play};

/// `SCHEDULES` plays more of them; `SEED` plays one again.
#[test]
fn no_schedule_doubles_or_loses_a_statement() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SCHEDULES").unwrap_or(400),
    };
    let mut tally = Tally::default();
    for seed in seeds {
        match play(seed) {
            Ok(played) => tally.add(&played),
            Err(broken) => panic!("{broken}; play it again with SEED={}", broken.seed),
        }
    }
    println!("{tally:?}");
    if tally.schedules >= 400 {
        assert!(
            tally.deaths > tally.schedules / 2 && tally.unknown > 0 && tally.faults > tally.schedules,
            "{tally:?}"
        );
    }
}

#[test]
fn a_schedule_repeats_itself() {
    for seed in 0..20 {
        assert_eq!(play(seed), play(seed));
    }
}
