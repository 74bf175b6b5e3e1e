#![doc = include_str!("../README.md")]

mod config;
mod deadline;
mod error;
mod event;
pub mod handler;
pub mod lambda;
mod sql;

pub use config::{Config, VARIABLES};
pub use deadline::Invocation;
pub use error::{Error, ErrorNames, Reported};
pub use event::{Reply, Request};
pub use sql::Call;
