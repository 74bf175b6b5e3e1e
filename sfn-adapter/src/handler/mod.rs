//! The handlers: plain async functions over the libraries' traits, one per file.

mod dropin;

pub use dropin::redshift;
