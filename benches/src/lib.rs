//! What every benchmark shares: the page that its figures go to.

pub mod results;
