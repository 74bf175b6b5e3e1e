//! The unit tests of the modules in this directory. They are a separate target because cargo does not build
//! an example as a program when it is also a test, and `tests/mystore.rs` runs the program.

#![allow(dead_code, reason = "items that only the program uses are unused here")]

mod changes;
mod crash;
mod domain;
mod embedded;
mod lake;
mod landing;
mod model;
mod options;
mod progress;
mod proof;
mod record;
mod report;
mod run_dir;
mod tpcds;
mod warehouse;
