//! Unit tests of the modules of the MyStore example. They are a separate target, because cargo does not build
//! an example's program if the example is also a test target, and `tests/mystore.rs` needs the program.

#![allow(dead_code, reason = "only the program uses these items")]

mod catalog;
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
