//! Formats durations: as decimal seconds in files and reports, and in human-readable form.

use std::time::Duration;

use jiff::{SignedDuration, Unit};

use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

pub(crate) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    // Microseconds are precise enough, and an `f64` represents them exactly for these durations.
    serializer.serialize_f64(duration.as_micros() as f64 / 1e6)
}

/// Returns the duration in the form used in pipeline files: `1h 30m`, `90s`. Rounds to milliseconds.
pub(crate) fn human(duration: Duration) -> String {
    let rounded = |signed: SignedDuration| match signed.round(Unit::Millisecond) {
        Ok(rounded) if !rounded.is_zero() => rounded,
        _ => signed,
    };
    SignedDuration::try_from(duration)
        .map_or_else(|_| format!("{duration:?}"), |signed| format!("{:#}", rounded(signed)))
}

/// Serializes an optional duration as seconds.
pub(crate) mod optional {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(
        duration: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => super::serialize(duration, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        Option::<f64>::deserialize(deserializer)?
            .map(|seconds| Duration::try_from_secs_f64(seconds).map_err(D::Error::custom))
            .transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Regression: a message said `timed out after 1s 999ms 957µs 356ns`.
    #[test]
    fn durations_for_people_are_rounded() {
        for (nanoseconds, text) in
            [(1_999_957_356, "2s"), (90_000_000_000, "1m 30s"), (1_500_000_000, "1s 500ms"), (700, "700ns")]
        {
            assert_eq!(human(Duration::from_nanos(nanoseconds)), text);
        }
    }
}
