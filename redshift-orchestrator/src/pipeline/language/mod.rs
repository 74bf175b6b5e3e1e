//! How a definition is written: in TOML or JSON, or in code; its parameters; and its check, after which it is a
//! [`Pipeline`](super::Pipeline).

mod builder;
mod check;
mod definition;
mod problem;
#[cfg(feature = "schema")]
mod schema;
mod source;
mod statements;
mod template;

pub use builder::PipelineBuilder;
#[cfg(feature = "schema")]
pub use schema::{json_schema, schema_file};
pub use template::{Piece, StepTemplate, Template, TemplateParameter, TemplateText, is_allowed_in_sql};
