//! The events and replies of the handlers, one file each.

pub mod dropin;
