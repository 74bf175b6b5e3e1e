//! Checks on random schedules that a statement runs at most once (promise 1) and is never lost (promise 2).

use std::{ops::Range, thread};

use super::simulation::{Broken, Flaw, Tally, peers, play, play_flawed};

/// The variable `SCHEDULES` sets the number of schedules. `SEED` replays the schedule of one seed.
#[test]
fn no_schedule_doubles_or_loses_a_statement() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SCHEDULES").unwrap_or(10_000),
    };
    let tally = on_all_cores(seeds).unwrap_or_else(|broken| {
        panic!("{broken}; replay it with SEED={}", broken.seed);
    });
    println!("{tally:?}");
    if tally.schedules >= 400 {
        assert!(
            tally.deaths > tally.schedules / 2 && tally.unknown > 0 && tally.faults > tally.schedules,
            "{tally:?}"
        );
    }
    if tally.schedules >= 10_000 {
        assert_eq!(tally.coverage.missing(), [""; 0], "{tally:?}");
    }
}

/// Plays the schedules of all seeds, divided among the cores. Returns the first broken promise, or the sum of
/// the tallies.
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
fn a_schedule_is_repeatable() {
    for seed in 0..100 {
        assert_eq!(play(seed), play(seed));
    }
    for seed in 0..20 {
        for peer in peers::ALL {
            assert_eq!(peers::play(peer, seed), peers::play(peer, seed), "{peer:?}");
        }
    }
}

/// Checks the judge: it must find each flaw that is added on purpose, within [`SCHEDULES_TO_A_FLAW`]
/// schedules.
#[test]
fn the_judge_finds_each_flaw() {
    let find = |(flaw, verdicts): (Flaw, &[&str])| {
        let is_it = |broken: &Broken| verdicts.iter().any(|verdict| broken.what.starts_with(verdict));
        let found =
            (0..SCHEDULES_TO_A_FLAW).find_map(|seed| play_flawed(seed, Some(flaw)).err().filter(is_it));
        let broken = found.unwrap_or_else(|| panic!("{flaw:?} was not found"));
        println!("{flaw:?}: {broken}");
        assert_eq!(play(broken.seed).map(|tally| tally.schedules), Ok(1), "{flaw:?}: {broken}");
    };
    thread::scope(|scope| {
        let halves = [0, 1].map(|half| Flaw::ALL.into_iter().skip(half).step_by(2));
        let threads = halves.map(|flaws| scope.spawn(move || flaws.for_each(find)));
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

/// Number of schedules within which the judge must find each flaw.
const SCHEDULES_TO_A_FLAW: u64 = 1_000;

/// Plays the same schedules with the published rules of each peer. Every peer runs some statements twice and
/// loses others.
#[test]
fn every_peer_doubles_and_loses_statements() {
    for peer in peers::ALL {
        let mut tally = Tally::default();
        (0..150).for_each(|seed| tally.add(&peers::play(peer, seed).unwrap()));
        println!("{}: {tally:?}", peer.name());
        assert!(tally.doubled > 0 && tally.lost > 0, "{}: {tally:?}", peer.name());
    }
}
