//! Slowly Changing Dimensions in Apache Hudi copy-on-write tables, without a JVM.

pub mod bloom;
mod error;
mod key;
mod layout;
pub mod lock;
mod properties;
pub mod retention;
pub mod scd;
pub mod schema;
mod storage;
pub mod timeline;

pub use error::{Error, ErrorKind, Result};
