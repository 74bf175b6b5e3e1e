//! Slowly Changing Dimensions in Apache Hudi copy-on-write tables, without a JVM.

mod error;

pub use error::{Error, ErrorKind, Result};
