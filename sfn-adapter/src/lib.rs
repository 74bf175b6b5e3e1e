#![doc = include_str!("../README.md")]

#[cfg(feature = "asl")]
pub mod asl;
pub mod aws;
mod call;
mod config;
pub mod contract;
pub mod emf;
mod error;
pub mod handler;
mod identity;
mod invocation;
#[cfg(feature = "hudi")]
mod lake;
pub mod lambda;
mod sentence;
#[cfg(feature = "glue")]
mod tables;
mod tasks;

pub use call::Call;
pub use config::{Config, HandlerName, VARIABLES, Warehouse};
pub use contract::dropin::{Reply, Request};
pub use error::{Error, ErrorNames, Reported};
pub use identity::{TASK_PREFIX, task_name, task_token};
pub use invocation::Invocation;
#[cfg(feature = "hudi")]
pub use lake::Lake;
#[cfg(feature = "glue")]
pub use tables::Tables;
pub use tasks::{Answered, TaskTokens};
