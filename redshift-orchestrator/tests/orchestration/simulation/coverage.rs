//! [`Coverage`]: how often schedules played each of the conditions that promises are made for.

use std::sync::{Mutex, PoisonError};

/// A condition that a promise is made for. It counts when it happened, and not when it was drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// A process with a fleet in front of the service submitted a statement.
    Fleet,
    /// A submit was repeated by a layer.
    RetryLayer,
    /// Two pipelines had one run name.
    TwoPipelines,
    /// Two databases had one run name.
    TwoTargets,
    /// A page of a listing took more than a minute.
    SlowListing,
    /// A submit was in the queues of the layers for longer than the service remembers a token.
    LongQueue,
    /// The storage of a journal failed, came back, and the same process continued.
    JournalBack,
    /// The clock of a process was behind that of the process before it.
    ClockBack,
    /// A lease was released while it was renewed, or became due for renewal during its release.
    LeaseRace,
    /// A cancelled statement was still running a minute later.
    SlowCancel,
    /// A statement was reported as timed out with its cancel pending.
    CancelPending,
    /// A statement ended by itself after its cancel was accepted.
    LateCancel,
    /// The credentials of a poll had expired.
    ExpiredInWait,
    /// The credentials of a first submit had expired.
    ExpiredInSubmit,
    /// The credentials of a submit that may have taken effect before had expired.
    ExpiredInRepeat,
    /// The credentials of a listing had expired.
    ExpiredInLookup,
    /// The credentials of a cancel had expired.
    ExpiredInCancel,
}

impl Condition {
    /// All conditions, with their names in tables.
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
        (Self::ExpiredInRepeat, "expired credentials after a submit in doubt"),
        (Self::ExpiredInLookup, "expired credentials in a lookup"),
        (Self::ExpiredInCancel, "expired credentials in a cancel"),
    ];
}

/// Counts of a condition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    /// Number of schedules in which it happened.
    pub(crate) schedules: u64,
    /// How often it happened.
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

    /// The name of each condition and its counts.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'static str, Count)> + '_ {
        Condition::ALL.iter().zip(&self.0).map(|((_, name), count)| (*name, *count))
    }

    /// Names of the conditions that never happened. Every run of 10,000 schedules plays each.
    pub(crate) fn missing(&self) -> Vec<&'static str> {
        self.iter().filter(|(_, count)| count.times == 0).map(|(name, _)| name).collect()
    }
}

/// The conditions that one schedule has played so far.
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
