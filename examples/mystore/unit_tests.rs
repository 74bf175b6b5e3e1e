//! The unit tests of the modules beside this file. They are a target of their own because cargo does not build an example as a
//! program when it is a test as well, and `tests/mystore.rs` runs the program.

#![allow(dead_code, reason = "what only the program uses is not used here")]

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
