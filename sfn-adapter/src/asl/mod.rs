//! Amazon States Language: state machines that run pipelines, and checks of any state machine.
//!
//! [`generate`] turns a [`Pipeline`](redshift_orchestrator::Pipeline) into a state machine in one of three
//! [`Form`]s and two [`QueryLanguage`]s. [`model`] has the language as types.

mod budget;
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
