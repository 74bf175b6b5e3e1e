//! Definitions of pipelines, in TOML, JSON or code, and their validation. A valid definition becomes a
//! [`Pipeline`](super::Pipeline).

mod build;
mod builder;
mod check;
mod definition;
mod problem;
mod read;
#[cfg(feature = "schema")]
mod schema;
mod source;
mod statements;
mod template;
mod text;
mod value;

pub use builder::PipelineBuilder;
#[cfg(feature = "schema")]
pub use schema::{json_schema, schema_file};
pub use template::{StepTemplate, Template, TemplateParameter};
pub use text::{Piece, TemplateText, is_allowed_in_sql};
