#![doc = include_str!("../README.md")]

mod call;
mod config;
pub mod contract;
mod error;
pub mod handler;
mod identity;
mod invocation;
pub mod lambda;
mod sentence;

pub use call::Call;
pub use config::{Config, VARIABLES};
pub use contract::dropin::{Reply, Request};
pub use error::{Error, ErrorNames, Reported};
pub use identity::{TASK_PREFIX, task_name, task_token};
pub use invocation::Invocation;
