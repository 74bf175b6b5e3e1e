//! [`Phase`]: a part of a write, and [`Phases`]: their durations.

use std::{fmt, time::Duration};

use tokio::time::Instant as Stopwatch;

use super::seconds;

/// The durations of a write's phases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Phases {
    /// Waiting for other writers.
    pub wait: Duration,
    /// Finding and undoing the remains of dead writers.
    pub repair: Duration,
    /// Converting the input to the table's schema; computing keys, partitions, and the newest row of each
    /// key.
    pub prepare: Duration,
    /// Looking up keys, and comparing with stored rows.
    pub find: Duration,
    /// Merging, encoding and storing base files.
    pub write: Duration,
    /// Writing the timeline.
    pub commit: Duration,
    /// Cleaning and archiving.
    pub clean: Duration,
    /// Synchronizing a catalog, after the lock was released.
    pub catalog: Duration,
}

impl Phases {
    /// Returns the total duration.
    pub fn total(&self) -> Duration {
        self.by_phase().map(|(_, duration)| duration).sum()
    }

    /// Returns the phases that took time, in order.
    pub(crate) fn by_phase(self) -> impl Iterator<Item = (Phase, Duration)> {
        let mut phases = self;
        let durations = Phase::ALL.map(|phase| (phase, *phases.of(phase)));
        durations.into_iter().filter(|(_, duration)| !duration.is_zero())
    }

    fn of(&mut self, phase: Phase) -> &mut Duration {
        match phase {
            Phase::Wait => &mut self.wait,
            Phase::Repair => &mut self.repair,
            Phase::Prepare => &mut self.prepare,
            Phase::Find => &mut self.find,
            Phase::Write => &mut self.write,
            Phase::Commit => &mut self.commit,
            Phase::Clean => &mut self.clean,
            Phase::Catalog => &mut self.catalog,
        }
    }
}

/// Formats the phases that took time: `wait 0.010 s, find 1.200 s`.
impl fmt::Display for Phases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (phase, duration)) in self.by_phase().enumerate() {
            let comma = if number == 0 { "" } else { ", " };
            write!(f, "{comma}{} {}", phase.name(), seconds(duration))?;
        }
        Ok(())
    }
}

/// A phase of a write. [`Phases`] explains each phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Wait,
    Repair,
    Prepare,
    Find,
    Write,
    Commit,
    Clean,
    Catalog,
}

impl Phase {
    const ALL: [Self; 8] = [
        Self::Wait,
        Self::Repair,
        Self::Prepare,
        Self::Find,
        Self::Write,
        Self::Commit,
        Self::Clean,
        Self::Catalog,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Wait => "wait",
            Self::Repair => "repair",
            Self::Prepare => "prepare",
            Self::Find => "find",
            Self::Write => "write",
            Self::Commit => "commit",
            Self::Clean => "clean",
            Self::Catalog => "catalog",
        }
    }
}

/// A stopwatch for successive phases. A phase can be entered more than once.
#[derive(Debug, Default)]
pub(super) struct Watch {
    phases: Phases,
    current: Option<(Phase, Stopwatch)>,
}

impl Watch {
    pub(super) fn enter(&mut self, phase: Phase) {
        let now = Stopwatch::now();
        if let Some((ended, since)) = self.current.replace((phase, now)) {
            *self.phases.of(ended) += now.duration_since(since);
        }
    }

    pub(super) fn phase(&self) -> Option<Phase> {
        self.current.map(|(phase, _)| phase)
    }

    /// Returns the durations, including the current phase.
    pub(super) fn phases(&self) -> Phases {
        let mut phases = self.phases;
        if let Some((current, since)) = self.current {
            *phases.of(current) += since.elapsed();
        }
        phases
    }
}
