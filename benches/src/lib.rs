//! What the benchmarks share: their data, a service on loopback, how they measure, and the page that their figures go to.

pub mod customers;
pub mod measure;
pub mod results;
pub mod service;
