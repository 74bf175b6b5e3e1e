//! What the benchmarks share: their data, how they measure, and the page that their figures go to.

pub mod customers;
pub mod measure;
pub mod results;
