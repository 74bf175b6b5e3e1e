//! Promises 1 and 2 over random schedules.

use std::{ops::Range, thread};

use super::simulation::{Broken, Flaw, Tally, peers, play, play_flawed};

/// `SCHEDULES` sets the number of schedules; `SEED` replays one.
#[test]
fn no_schedule_doubles_or_loses_a_statement() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SCHEDULES").unwrap_or(20_000),
    };
    let tally = on_all_cores(seeds).unwrap_or_else(|broken| {
        panic!("{broken}; play it again with SEED={}", broken.seed);
    });
    println!("{tally:?}");
    if tally.schedules >= 400 {
        assert!(
            tally.deaths > tally.schedules / 2 && tally.unknown > 0 && tally.faults > tally.schedules,
            "{tally:?}"
        );
    }
}

/// Divides the seeds between the cores.
fn on_all_cores(seeds: Range<u64>) -> Result<Tally, Broken> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let tallies: Vec<Result<Tally, Broken>> = thread::scope(|scope| {
        let seeds = &seeds;
        let play_every = |core: usize| {
            move || {
                let mut tally = Tally::default();
                for seed in seeds.clone().skip(core).step_by(cores) {
                    tally.add(&play(seed)?);
                }
                Ok(tally)
            }
        };
        let threads: Vec<_> = (0..cores).map(|core| scope.spawn(play_every(core))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let mut sum = Tally::default();
    for tally in tallies {
        sum.add(&tally?);
    }
    Ok(sum)
}

#[test]
fn a_schedule_repeats_itself() {
    for seed in 0..20 {
        assert_eq!(play(seed), play(seed));
        for peer in peers::ALL {
            assert_eq!(peers::play(peer, seed), peers::play(peer, seed), "{peer:?}");
        }
    }
}

/// Validates the judge: each flaw must be detected and classified correctly within a few hundred schedules.
#[test]
fn an_orchestrator_that_is_broken_on_purpose_is_found_out() {
    for (flaw, verdict) in [
        (Flaw::FreshTokens, "DOUBLED"),
        (Flaw::ForgetfulJournal, "DOUBLED"),
        (Flaw::ResubmitsUnknown, "DOUBLED"),
        (Flaw::HastyReader, "LOST"),
        (Flaw::Impatient, "UNJUSTIFIED"),
    ] {
        let found = (0..500).find_map(|seed| {
            play_flawed(seed, Some(flaw)).err().filter(|broken| broken.what.starts_with(verdict))
        });
        let broken = found.unwrap_or_else(|| panic!("{flaw:?} is not found out"));
        println!("{flaw:?}: {broken}");
        assert!(play(broken.seed).is_ok(), "{broken}");
    }
}

/// The number of doubled and lost statements of each peer's published rules, on the schedules on which ours
/// are zero.
#[test]
fn every_peer_doubles_and_loses_statements() {
    for peer in peers::ALL {
        let mut tally = Tally::default();
        (0..150).for_each(|seed| tally.add(&peers::play(peer, seed).unwrap()));
        println!("{}: {tally:?}", peer.name());
        assert!(tally.doubled > 0 && tally.lost > 0, "{}: {tally:?}", peer.name());
    }
}
