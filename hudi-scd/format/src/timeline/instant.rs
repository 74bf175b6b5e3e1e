//! [`Instant`]: the name of a point on the timeline, and the creation of new ones.

use std::{fmt, str::FromStr};

use jiff::{SignedDuration, Timestamp, civil, tz::TimeZone};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Error, ErrorKind, Result};

/// A point on the timeline: `yyyyMMddHHmmssSSS` in the timeline's time zone, as in `20261123042633497`.
///
/// It is a name rather than a time. As in every reader of Hudi, instants are compared as strings. Tables
/// older than Hudi 0.10 have instants without milliseconds, with 14 digits. These are parsed and sorted
/// correctly too.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant([u8; Self::DIGITS]);

impl Instant {
    const DIGITS: usize = 17;
    const DIGITS_WITHOUT_MILLIS: usize = 14;

    /// Returns the instant for a point in time, with a precision of a millisecond.
    pub fn from_timestamp(timestamp: Timestamp, zone: &TimeZone) -> Self {
        Self::from_civil(zone.to_datetime(timestamp))
    }

    fn from_civil(time: civil::DateTime) -> Self {
        let text = format!(
            "{:04}{:02}{:02}{:02}{:02}{:02}{:03}",
            time.year().max(0),
            time.month(),
            time.day(),
            time.hour(),
            time.minute(),
            time.second(),
            time.millisecond()
        );
        let mut digits = [0; Self::DIGITS];
        digits.copy_from_slice(text.as_bytes());
        Self(digits)
    }

    /// Returns the point in time that the digits represent. Returns `None` if they are not a date, as in
    /// Hudi's bootstrap instants.
    pub fn to_timestamp(self, zone: &TimeZone) -> Option<Timestamp> {
        zone.to_timestamp(self.to_civil()?).ok()
    }

    fn to_civil(self) -> Option<civil::DateTime> {
        let number = |range: std::ops::Range<usize>| self.as_str().get(range)?.parse::<i16>().ok();
        let part = |range| number(range).and_then(|number| i8::try_from(number).ok());
        let millis = number(14..17).unwrap_or(0);
        civil::DateTime::new(
            number(0..4)?,
            part(4..6)?,
            part(6..8)?,
            part(8..10)?,
            part(10..12)?,
            part(12..14)?,
            i32::from(millis) * 1_000_000,
        )
        .ok()
    }

    /// Returns the digits.
    pub fn as_str(&self) -> &str {
        let digits = self.0.iter().take_while(|digit| **digit != 0).count();
        std::str::from_utf8(&self.0[..digits]).unwrap_or_default()
    }

    /// Creates a new instant: the current time, or a millisecond after `newest` if the clock lags behind the
    /// timeline.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if `newest` is later than the current time but not a date.
    pub fn mint(now: Timestamp, zone: &TimeZone, newest: Option<Self>) -> Result<Self> {
        let instant = Self::from_timestamp(now, zone);
        match newest {
            Some(newest) if newest >= instant => newest
                .to_civil()
                .and_then(|time| time.checked_add(SignedDuration::from_millis(1)).ok())
                .map(Self::from_civil)
                .ok_or_else(|| {
                    Error::new(ErrorKind::Corrupt, "the newest instant is not a date")
                        .with_context("instant", newest)
                }),
            _ => Ok(instant),
        }
    }
}

impl FromStr for Instant {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let known_length = matches!(text.len(), Self::DIGITS | Self::DIGITS_WITHOUT_MILLIS);
        if !known_length || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "an instant has 17 digits, yyyyMMddHHmmssSSS, or the first 14 of them",
            )
            .with_context("instant", text));
        }
        let mut digits = [0; Self::DIGITS];
        digits[..text.len()].copy_from_slice(text.as_bytes());
        Ok(Self(digits))
    }
}

impl fmt::Display for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Instant {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Instant {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|_| serde::de::Error::custom(format!("{text:?} is not an instant")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instant(text: &str) -> Instant {
        text.parse().unwrap()
    }

    #[test]
    fn an_instant_is_its_digits_in_the_zone_of_the_timeline() {
        let time: Timestamp = "2026-11-23T04:26:33.497999Z".parse().unwrap();
        let minted = Instant::from_timestamp(time, &TimeZone::UTC);
        assert_eq!(minted.to_string(), "20261123042633497");
        assert_eq!(minted.to_timestamp(&TimeZone::UTC), Some("2026-11-23T04:26:33.497Z".parse().unwrap()));
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        assert_eq!(Instant::from_timestamp(time, &zone).to_string(), "20261123062633497");
    }

    #[test]
    fn instants_without_milliseconds_sort_before_those_of_the_same_second() {
        assert!(instant("20210101000000") < instant("20210101000000000"));
        assert!(instant("20210101000000999") < instant("20210101000001"));
        assert_eq!(instant("20210101000000").to_string(), "20210101000000");
    }

    #[test]
    fn a_minted_instant_is_newer_than_the_newest_though_the_clock_lags() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let mint = |newest| Instant::mint(now, &TimeZone::UTC, newest).unwrap().to_string();
        assert_eq!(mint(None), "20260101000000000");
        assert_eq!(mint(Some(instant("20251231235959999"))), "20260101000000000");
        assert_eq!(mint(Some(instant("20260101000000000"))), "20260101000000001");
        assert_eq!(mint(Some(instant("20261231235959999"))), "20270101000000000");
        assert_eq!(mint(Some(instant("20261231235959"))), "20261231235959001");
    }

    #[test]
    fn what_is_not_an_instant_is_refused_by_name() {
        for text in ["", "2026", "2026112304263349x", "202611230426334970"] {
            let error = text.parse::<Instant>().unwrap_err();
            assert_eq!((error.kind(), error.context("instant")), (ErrorKind::InvalidInput, Some(text)));
        }
    }
}
