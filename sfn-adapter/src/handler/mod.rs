//! The handlers: plain async functions over the libraries' traits, one a file.

mod redshift;

pub use redshift::redshift;
