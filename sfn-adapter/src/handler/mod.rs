//! The handlers: plain async functions over the libraries' traits, one per file.

mod redshift;

pub use redshift::redshift;
