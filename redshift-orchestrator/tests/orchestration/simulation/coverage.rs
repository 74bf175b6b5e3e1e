//! [`Coverage`]: counts how often the schedules met each condition under which the promises hold.

use std::sync::{Mutex, PoisonError};

/// Condition under which the promises hold. It is counted when it occurs, not when it is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// A process with a fleet in front of the service submitted a statement.
    Fleet,
    /// A layer repeated a submit.
    RetryLayer,
    /// Two pipelines had runs with the same name.
    TwoPipelines,
    /// Two databases had runs with the same name.
    TwoTargets,
    /// A page of a listing took more than a minute.
    SlowListing,
    /// A submit was queued in the layers for longer than the service remembers a client token.
    LongQueue,
    /// The storage of a journal failed and recovered, and the same process continued.
    JournalBack,
    /// The clock of a process was behind the clock of the previous process.
    ClockBack,
    /// A lease was released while it was renewed, or became due for renewal during its release.
    LeaseRace,
    /// A cancelled statement was still running a minute later.
    SlowCancel,
    /// A statement was reported as timed out while its cancel was pending.
    CancelPending,
    /// A statement finished or failed after its cancel was accepted.
    LateCancel,
    /// The credentials had expired at a poll.
    ExpiredInWait,
    /// The credentials had expired at a first submit.
    ExpiredInSubmit,
    /// The credentials had expired at the repetition of a submit that may have taken effect.
    ExpiredInRepeat,
    /// The credentials had expired at a listing.
    ExpiredInLookup,
    /// The credentials had expired at a cancel.
    ExpiredInCancel,
}

impl Condition {
    /// All conditions, each with its name for tables.
    pub(crate) const ALL: [(Self, &'static str); 17] = [
        (Self::Fleet, "a Fleet in front"),
        (Self::RetryLayer, "a layer repeated a submit"),
        (Self::TwoPipelines, "two pipelines with one run name"),
        (Self::TwoTargets, "two databases with one run name"),
        (Self::SlowListing, "a listing of more than a minute"),
        (Self::LongQueue, "a submit queued for more than 8 h"),
        (Self::JournalBack, "a journal away, and back in the same process"),
        (Self::ClockBack, "a clock that stepped back across a restart"),
        (Self::LeaseRace, "a release that raced a renewal"),
        (Self::SlowCancel, "a cancel that took more than a minute"),
        (Self::CancelPending, "a cancel pending at the end of its grace"),
        (Self::LateCancel, "a cancel that came too late"),
        (Self::ExpiredInWait, "expired credentials in a wait"),
        (Self::ExpiredInSubmit, "expired credentials in a first submit"),
        (Self::ExpiredInRepeat, "expired credentials after an uncertain submit"),
        (Self::ExpiredInLookup, "expired credentials in a lookup"),
        (Self::ExpiredInCancel, "expired credentials in a cancel"),
    ];
}

/// Count of a condition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    /// Number of schedules in which the condition occurred.
    pub(crate) schedules: u64,
    /// Total number of occurrences.
    pub(crate) times: u64,
}

/// Counts of all conditions, in the order of [`Condition::ALL`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Coverage([Count; Condition::ALL.len()]);

impl Coverage {
    /// Adds the counts of other schedules.
    pub(crate) fn add(&mut self, other: &Self) {
        for (sum, count) in self.0.iter_mut().zip(&other.0) {
            sum.schedules += count.schedules;
            sum.times += count.times;
        }
    }

    /// Returns the name and the count of each condition.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'static str, Count)> + '_ {
        Condition::ALL.iter().zip(&self.0).map(|((_, name), count)| (*name, *count))
    }

    /// Returns the names of the conditions that never occurred. In 10,000 schedules, every condition must
    /// occur.
    pub(crate) fn missing(&self) -> Vec<&'static str> {
        self.iter().filter(|(_, count)| count.times == 0).map(|(name, _)| name).collect()
    }
}

/// Conditions that have occurred in one schedule so far.
#[derive(Default)]
pub(super) struct Played(Mutex<Coverage>);

impl Played {
    pub(super) fn note(&self, condition: Condition) {
        let mut coverage = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = &mut coverage.0[condition as usize];
        count.schedules = 1;
        count.times += 1;
    }

    pub(super) fn coverage(&self) -> Coverage {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
