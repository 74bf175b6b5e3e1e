//! The contract of the handler `statement`: one event schema for all actions.
//!
//! ```json
//! {
//!   "version": 1,
//!   "action": "submit",
//!   "identity": { "execution": "arn:aws:states:…:load:7f3a", "redrive": 0, "step": "sales", "attempt": 1 },
//!   "call": "mystore.load_sales(:cycle)",
//!   "parameters": { "cycle": 7 }
//! }
//! ```
//!
//! | action | members besides `version`, `action`, `identity` | reply |
//! |---|---|---|
//! | `submit` | [`Submit`] | [`State`] |
//! | `status`, `wait` | [`Poll`] | [`State`] |
//! | `cancel` | [`Cancel`] | [`State`] |
//! | `result` | [`ReadResult`] | [`ResultPage`] |
//! | `list` | [`List`] | [`Listing`] |

mod reply;
mod request;

pub use reply::{Column, Listing, Outcome, Reply, ResultPage, State, SubState};
pub use request::{
    Action, Cancel, Identity, List, Listed, Mode, Poll, ReadResult, Request, ResultFormat, Scalar, Submit,
    Target,
};
