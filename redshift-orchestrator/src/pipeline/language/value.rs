//! Types of values in a pipeline file: parameter values and durations.

use std::time::Duration;

use jiff::SignedDuration;
use serde::{Deserialize, Deserializer, de::Error as _};

/// Parameter value, written as a string, number, date or boolean. The service receives all values as text.
pub(super) struct Scalar(pub(super) String);

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Text(String),
            Whole(i64),
            Natural(u64),
            Number(f64),
            Truth(bool),
            /// Date or time in TOML.
            Time(toml::value::Datetime),
        }
        // 2^53. An `f64` does not represent all integers above this number.
        const EXACT: f64 = 9_007_199_254_740_992.0;
        Ok(Self(match Written::deserialize(deserializer) {
            Ok(Written::Text(text)) => text,
            Ok(Written::Whole(number)) => number.to_string(),
            Ok(Written::Natural(number)) => number.to_string(),
            Ok(Written::Number(number)) if number.abs() < EXACT => number.to_string(),
            Ok(Written::Number(_)) => {
                return Err(D::Error::custom(
                    "the number is too large to be read exactly; write it as a text",
                ));
            }
            Ok(Written::Truth(truth)) => truth.to_string(),
            Ok(Written::Time(time)) => time.to_string(),
            Err(_) => {
                return Err(D::Error::custom("a value must be a text, a number, a date, true or false"));
            }
        }))
    }
}

/// Value that is written as a string, such as the duration `90s` or `1h 30m`.
pub(super) struct Text<T>(pub(super) T);

impl<'de> Deserialize<'de> for Text<Duration> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let parsed =
            text.parse::<SignedDuration>().ok().and_then(|duration| Duration::try_from(duration).ok());
        parsed.map(Text).ok_or_else(|| {
            D::Error::custom("not a valid duration; write it like \"90s\", \"10m\" or \"1h 30m\"")
        })
    }
}
