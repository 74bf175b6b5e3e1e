//! Prints the public items of a library, one per line, from the JSON file that rustdoc wrote.

use std::{env, process::ExitCode};

fn main() -> ExitCode {
    let Some(path) = env::args_os().nth(1) else {
        eprintln!("usage: list-public-api FILE.json");
        return ExitCode::FAILURE;
    };
    // Derived, blanket and auto trait implementations follow from the types and would be most of the list.
    let listed = public_api::Builder::from_rustdoc_json(path)
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
        .omit_auto_derived_impls(true)
        .build();
    match listed {
        Ok(api) => {
            print!("{api}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
