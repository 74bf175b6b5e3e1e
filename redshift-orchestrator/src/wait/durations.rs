//! [`Durations`]: durations of earlier runs of each step.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{
    Result, Status,
    journal::{EntryState, Journal},
};

/// Durations of earlier runs of each step, for [`Learned`](super::Learned). Clones share their data.
///
/// An orchestrator adds the duration of every statement that finishes. The data can be serialized with serde,
/// or read from the journal of earlier runs:
///
/// ```
/// # use redshift_orchestrator::{*, journal::*, wait::*};
/// # async fn example(executor: std::sync::Arc<dyn StatementExecutor>) -> Result<()> {
/// let journal = FileJournal::open("journal.jsonl")?;
/// let durations = Durations::from_journal(&journal, ["cycle-006", "cycle-007"]).await?;
/// let orchestrator = Orchestrator::new(executor)
///     .with_journal(journal)
///     .with_strategy(Learned::default())
///     .with_durations(durations);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Durations(Arc<Mutex<BTreeMap<String, VecDeque<Duration>>>>);

/// Number of durations kept for each step. The median of seven ignores up to three outliers.
const KEPT: usize = 7;

impl Durations {
    /// Creates an empty collection.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads the durations of finished statements from a journal. `runs` lists the runs to read, oldest
    /// first.
    ///
    /// # Errors
    /// Returns the errors of the journal.
    pub async fn from_journal(
        journal: &(impl Journal + ?Sized),
        runs: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<Self> {
        let durations = Self::new();
        for run in runs {
            for entry in journal.entries(run.as_ref()).await? {
                if let EntryState::Ended(ended) = entry.state
                    && ended.status == Status::Finished
                    && let Some(took) = ended.execution_time
                {
                    durations.add(&entry.key.step, took);
                }
            }
        }
        Ok(durations)
    }

    /// Adds a duration of the step. If the step already has seven, the oldest is removed.
    pub fn add(&self, step: &str, took: Duration) {
        let mut known = self.known();
        let last = match known.get_mut(step) {
            Some(last) => last,
            None => known.entry(step.to_owned()).or_default(),
        };
        if last.len() == KEPT {
            last.pop_front();
        }
        last.push_back(took);
    }

    /// Returns the expected duration of the step: the median of its last seven durations. For an even number
    /// of durations, this is the lower of the two middle values.
    pub fn expected(&self, step: &str) -> Option<Duration> {
        let known = self.known();
        let mut last: Vec<_> = known.get(step)?.iter().copied().collect();
        last.sort_unstable();
        last.get(last.len().saturating_sub(1) / 2).copied()
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<String, VecDeque<Duration>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PartialEq for Durations {
    fn eq(&self, other: &Self) -> bool {
        if Arc::ptr_eq(&self.0, &other.0) {
            return true;
        }
        let ours = self.known().clone();
        ours == *other.known()
    }
}

/// Serializes as a map from step to seconds, newest last: `{"load-sales": [61.2, 60.9]}`.
impl Serialize for Durations {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let known = self.known();
        let seconds = |last: &VecDeque<Duration>| last.iter().map(Duration::as_secs_f64).collect::<Vec<_>>();
        serializer.collect_map(known.iter().map(|(step, last)| (step, seconds(last))))
    }
}

impl<'de> Deserialize<'de> for Durations {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let durations = Self::new();
        for (step, seconds) in BTreeMap::<String, Vec<f64>>::deserialize(deserializer)? {
            for seconds in seconds {
                let took = Duration::try_from_secs_f64(seconds).map_err(serde::de::Error::custom)?;
                durations.add(&step, took);
            }
        }
        Ok(durations)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(seconds: &[u64]) -> Durations {
        let durations = Durations::new();
        seconds.iter().for_each(|seconds| durations.add("step", Duration::from_secs(*seconds)));
        durations
    }

    #[test]
    fn outliers_do_not_count_and_old_durations_are_forgotten() {
        assert_eq!(of(&[]).expected("step"), None);
        assert_eq!(of(&[10, 600]).expected("step"), Some(Duration::from_secs(10)));
        assert_eq!(of(&[60, 61, 5, 62, 63]).expected("step"), Some(Duration::from_secs(61)));
        assert_eq!(of(&[1, 1, 1, 1, 1, 9, 9, 9, 9, 9]).expected("step"), Some(Duration::from_secs(9)));
    }

    #[test]
    fn durations_survive_the_process() {
        let learned = of(&[60, 61]);
        let text = serde_json::to_string(&learned).unwrap();
        assert_eq!(text, r#"{"step":[60.0,61.0]}"#);
        assert_eq!(serde_json::from_str::<Durations>(&text).unwrap(), learned);
        assert!(serde_json::from_str::<Durations>(r#"{"step":[-1.0]}"#).is_err());
        assert!(serde_json::from_str::<Durations>(r#"{"step":[1e300]}"#).is_err());
    }
}
