//! [`Overlap`]: behaviour of a run while another run of the pipeline is active.

use serde::{Deserialize, Serialize};

/// Behaviour of a run while another run of the same pipeline is active.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub enum Overlap {
    /// Rejects the run with an error that names the active run. The default.
    #[default]
    Refuse,
    /// Waits until no other run is active. Waiting runs are admitted in no particular order.
    Queue,
    /// Runs both concurrently. Two processes still cannot run the *same run*.
    Allow,
}
