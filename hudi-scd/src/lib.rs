//! Slowly Changing Dimensions in Apache Hudi copy-on-write tables, without a JVM.

pub mod bloom;
mod error;
pub mod schema;
pub mod timeline;

pub use error::{Error, ErrorKind, Result};
