//! Feeds mutations of valid external inputs, drawn from seeds, to the parsers. No input may cause a panic or
//! violate an invariant.
//!
//! The cargo-fuzz targets in `fuzz/` use the same inputs and are guided by coverage. Set `INPUTS` to change
//! the number of inputs of each kind, and `INPUT` to replay one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::panic::{AssertUnwindSafe, catch_unwind};

#[path = "../../fuzz/src/inputs/mod.rs"]
#[allow(dead_code, missing_docs, unreachable_pub)]
mod inputs;

use inputs::Input;
use redshift_data_local::{Faults, Script};
use redshift_orchestrator::Pipeline;

fn feed(input: Input, usual: u64) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let numbers = match number("INPUT") {
        Some(one) => one..one + 1,
        None => 0..number("INPUTS").unwrap_or(usual),
    };
    for one in numbers {
        let data = input.drawn(one);
        catch_unwind(AssertUnwindSafe(|| input.feed(&data))).unwrap_or_else(|panic| {
            eprintln!("INPUT={one} replays this input:\n{}", String::from_utf8_lossy(&data));
            std::panic::resume_unwind(panic);
        });
    }
}

#[test]
fn valid_inputs_are_accepted() {
    for input in Input::ALL {
        input.seeds().iter().for_each(|seed| input.feed(seed.as_bytes()));
    }
    for text in Input::Pipeline.seeds() {
        assert!(Pipeline::from_toml(text).or_else(|_| Pipeline::from_json(text)).is_ok(), "{text}");
    }
    for text in Input::Script.seeds() {
        assert!(Script::from_toml(text).is_ok() || Faults::from_toml(text).is_ok(), "{text}");
    }
}

#[test]
fn deep_nesting_does_not_overflow_the_stack() {
    for nested in Input::nested() {
        Input::ALL.iter().for_each(|input| input.feed(nested.as_bytes()));
    }
}

#[test]
fn no_response_of_the_service_panics() {
    feed(Input::ServiceReply, 3_000);
}

#[test]
fn no_journal_panics_or_doubles_a_step() {
    feed(Input::Journal, 10_000);
}

#[test]
fn no_pipeline_file_panics() {
    feed(Input::Pipeline, 10_000);
}

#[test]
fn no_script_panics() {
    feed(Input::Script, 10_000);
}

#[test]
fn no_request_to_the_emulator_panics() {
    feed(Input::EmulatorRequest, 10_000);
}
