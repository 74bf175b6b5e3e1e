//! What the benchmarks share: their data, services on loopback and on a simulated clock, how they measure, and the page that their figures go to.

pub mod customers;
pub mod measure;
pub mod results;
pub mod service;
pub mod simulated;
