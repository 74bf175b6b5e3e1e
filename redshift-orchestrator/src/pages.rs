//! [`Pages`]: the pages of one answer, each turned to once.

use std::collections::HashSet;

use crate::{Error, ErrorKind, PageToken, Result};

/// The pages of an answer that were turned to. Where pages lead back to one of them, following them would never end.
#[derive(Debug, Default)]
pub(crate) struct Pages(HashSet<PageToken>);

impl Pages {
    /// The page behind the one at hand, if there is one.
    ///
    /// # Errors
    /// [`ErrorKind::Other`] for one that was turned to before.
    pub(crate) fn turn(&mut self, next: Option<PageToken>) -> Result<Option<PageToken>> {
        match next {
            Some(next) if !self.0.insert(next.clone()) => {
                Err(Error::new(ErrorKind::Other, "the pages of the service's answer go round in a circle"))
            }
            next => Ok(next),
        }
    }
}
