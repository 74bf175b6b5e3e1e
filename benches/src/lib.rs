//! Code shared by the benchmarks: data, services on loopback and on a simulated clock, measurement, and the
//! results page.

pub mod customers;
pub mod folders;
pub mod measure;
pub mod remote;
pub mod results;
pub mod service;
pub mod simulated;
