//! A table doctor for Apache Hudi tables that needs no cluster: see `hudi-scd --help`, and [`hudi_scd::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    hudi_scd::cli::main(std::env::args_os())
}
