//! [`Pages`]: guard against pagination that never ends.

use std::collections::HashSet;

use crate::{Error, ErrorKind, PageToken, Result};

/// Page tokens that were already followed. A repeated token means that the pages form a cycle.
#[derive(Debug, Default)]
pub(crate) struct Pages(HashSet<PageToken>);

impl Pages {
    /// Returns the token of the next page, if there is one, and records it.
    ///
    /// # Errors
    /// Returns [`ErrorKind::Other`] for a token that was already followed.
    pub(crate) fn turn(&mut self, next: Option<PageToken>) -> Result<Option<PageToken>> {
        match next {
            Some(next) if !self.0.insert(next.clone()) => {
                Err(Error::new(ErrorKind::Other, "the pages of the service's response form a cycle"))
            }
            next => Ok(next),
        }
    }
}
