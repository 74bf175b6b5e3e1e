//! Amazon States Language: state machines that run pipelines, and checks of any state machine.
//!
//! [`generate`] turns a [`Pipeline`](redshift_orchestrator::Pipeline) into a state machine in one of three
//! [`Form`]s and two [`QueryLanguage`]s. [`model`] contains the language as types.

mod budget;
mod condition;
mod cost;
mod expr;
mod form;
mod graph;
mod lint;
mod mocks;
pub mod model;

pub use budget::{Budget, HISTORY};
pub use cost::{Cost, PRICES, Prices, cost};
pub use expr::QueryLanguage;
pub use form::{Form, Generated, Options, generate};
pub use lint::{Finding, RULES, Rule, Severity, lint};
pub use mocks::{Mock, mocks};

/// Statuses of a running statement.
const RUNNING: [&str; 3] = ["SUBMITTED", "PICKED", "STARTED"];

/// Returns `true` if a text matches a pattern. `*` matches any text.
fn matches(text: &str, pattern: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let parts: Vec<_> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}
