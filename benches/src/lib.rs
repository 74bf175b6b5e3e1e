//! Code shared by the benchmarks: data, services on loopback and on a simulated clock, measurement, and the
//! results page.

pub mod customers;
pub mod folders;
pub mod functions;
pub mod measure;
pub mod proxy;
pub mod remote;
pub mod results;
pub mod runtime_api;
pub mod service;
pub mod simulated;
