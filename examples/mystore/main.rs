//! MyStore.
fn main() {}
