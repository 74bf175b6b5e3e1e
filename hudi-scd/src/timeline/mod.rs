//! The timeline: what was done to a table, when, and how far it got.

pub mod avro;
