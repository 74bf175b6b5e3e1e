//! Parses the members of an event, and explains in one sentence why they are invalid.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::VERSION;
use crate::{Error, sentence::cut};

/// Maximum length of the quoted name of an unknown member, in characters.
const LONGEST_NAME: usize = 40;

/// Maximum length of the quoted path of a member, in characters.
const LONGEST_PATH: usize = 120;

/// Maximum length of a reason, in characters.
const LONGEST_MESSAGE: usize = 300;

/// Parses an event as a JSON object.
pub(super) fn object(event: &str) -> Result<Map<String, Value>, Error> {
    let is = match serde_json::from_str(event) {
        Ok(Value::Object(members)) => return Ok(members),
        Ok(Value::Array(_)) => "a list".to_owned(),
        Ok(Value::String(_)) => "a string".to_owned(),
        Ok(other) => other.to_string(),
        Err(error) => {
            let text = format!("the event is not valid JSON: {error}; send a JSON object");
            return Err(Error::BadInput(text));
        }
    };
    Err(Error::BadInput(format!("the event is {is}; send a JSON object")))
}

/// Removes and checks the member `version`.
pub(super) fn take_version(event: &mut Map<String, Value>) -> Result<(), Error> {
    match event.remove("version") {
        // JSON does not distinguish 1 from 1.0.
        Some(version) if version.as_f64() == Some(f64::from(VERSION)) => Ok(()),
        Some(_) => Err(Error::BadInput(format!(
            "`version` of the event is not supported; this function supports version {VERSION}"
        ))),
        None => Err(Error::BadInput(format!("the event lacks the member `version`; send {VERSION}"))),
    }
}

/// Parses the members of `place`, which is the event or one of its members.
pub(super) fn read<T: DeserializeOwned>(place: &str, mut members: Value) -> Result<T, Error> {
    whole_members(&mut members);
    if let Some(identity) = members.get_mut("identity") {
        whole_members(identity);
    }
    serde_path_to_error::deserialize(members).map_err(|error| {
        let path = error.path().to_string();
        Error::BadInput(explained(place, &path, &error.inner().to_string()))
    })
}

/// Largest whole number that a float represents exactly together with all smaller ones.
const MAX_WHOLE: f64 = 9_007_199_254_740_992.0;

/// Turns the numbers among the members of an object into whole ones. Values deeper in the object, such as
/// those of parameters, stay as they are.
fn whole_members(object: &mut Value) {
    object.as_object_mut().into_iter().flat_map(Map::values_mut).for_each(whole);
}

/// Turns a number such as `5.0` into `5`. JSON does not distinguish them, and JSONata may write either.
fn whole(member: &mut Value) {
    let number = member.as_f64().filter(|_| member.is_f64());
    if let Some(number) = number.filter(|number| number.fract() == 0.0 && (0.0..=MAX_WHOLE).contains(number))
    {
        *member = Value::from(number as u64);
    }
}

/// Turns a message of serde into a sentence that names the member. The sentence quotes no value, because the
/// value may be SQL.
fn explained(place: &str, path: &str, message: &str) -> String {
    let place = if place.is_empty() { "the event".to_owned() } else { format!("`{place}`") };
    let member_at = |path: &str| match path {
        "" | "." | "?" => place.clone(),
        // A member's name may be any string from the event.
        path => format!("`{}` of {place}", cut(path, LONGEST_PATH)),
    };
    if let Some((name, known)) = quoted(message, "unknown field `") {
        let parent = path.strip_suffix(&name).unwrap_or(path).trim_end_matches('.');
        let name = cut(&name, LONGEST_NAME);
        return format!("{} has no member `{name}`; {known}", member_at(parent));
    }
    let member = member_at(path);
    if let Some((name, _)) = quoted(message, "missing field `") {
        return format!("{member} lacks the member `{}`; add it", cut(&name, LONGEST_NAME));
    }
    if let Some((_, known)) = quoted(message, "unknown variant `") {
        return format!("{member} has an unknown value; {known}");
    }
    match message.rsplit_once(", expected ") {
        Some((_, expected)) => format!("{member} must be {}", in_words(expected)),
        None => format!("{member} {}", cut(message, LONGEST_MESSAGE)),
    }
}

/// Splits ``unknown field `x`, expected one of `a`, `b` `` into the name and the known names.
fn quoted(message: &str, beginning: &str) -> Option<(String, String)> {
    let (name, rest) = message.strip_prefix(beginning)?.split_once('`')?;
    let known = match rest.trim_start_matches(", expected ").trim_start_matches("one of ") {
        ", there are no fields" => "remove it".to_owned(),
        known => format!("use {known}"),
    };
    Some((name.to_owned(), known))
}

/// Translates the name of a type for users of JSON.
fn in_words(expected: &str) -> &str {
    match expected {
        "u8" => "a whole number of 0 to 255",
        "u16" => "a whole number of 0 to 65,535",
        "u32" => "a whole number of 0 to 4,294,967,295",
        "u64" | "usize" => "a whole number of 0 or more",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a map" | "map" => "an object",
        "a string" | "string or map" | "variant identifier" | "field identifier" => "a string",
        // Types of this crate describe themselves. Other descriptions would be names of Rust types.
        other
            if ["a string", "a number", "an object", "a list", "one of"]
                .iter()
                .any(|begin| other.starts_with(begin)) =>
        {
            other
        }
        other if other.starts_with("struct ") || other.starts_with("internally tagged") => "an object",
        other if other.starts_with("tuple") || other.starts_with("an array") => "a list",
        _ => "of another type; see the JSON Schema of the event",
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Inner {
        n: u8,
    }

    #[derive(Debug, Deserialize)]
    #[allow(dead_code)]
    enum Kind {
        One,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Outer {
        inner: Option<Inner>,
        kind: Option<Kind>,
        all: Option<std::collections::BTreeMap<String, u8>>,
    }

    #[test]
    fn messages_have_no_names_of_rust() {
        for (event, expected) in [
            (json!({ "inner": 7 }), "`inner` of the event must be an object"),
            (json!({ "inner": "SELECT 1" }), "`inner` of the event must be an object"),
            (json!({ "kind": "two" }), "`kind` of the event has an unknown value; use `One`"),
            (json!({ "kind": 7 }), "`kind` of the event must be a string"),
            (json!({ "inner": { "n": 256 } }), "`inner.n` of the event must be a whole number of 0 to 255"),
            (json!({ "inner": { "n": -1 } }), "`inner.n` of the event must be a whole number of 0 to 255"),
        ] {
            let error = read::<Outer>("", event.clone()).unwrap_err().to_string();
            assert_eq!(error, expected, "{event}");
        }
    }

    #[test]
    fn a_whole_number_may_have_a_fraction_of_zero() {
        assert_eq!(read::<Inner>("", json!({ "n": 5.0 })).unwrap().n, 5);
        for wrong in [json!(5.5), json!(-1.0), json!(1e300)] {
            let error = read::<Inner>("", json!({ "n": wrong })).unwrap_err().to_string();
            assert_eq!(error, "`n` of the event must be a whole number of 0 to 255");
        }
    }

    #[test]
    fn long_names_of_members_are_cut_between_characters() {
        for name in ["x".repeat(1 << 20), format!("x{}", "ü".repeat(1 << 19))] {
            for event in [json!({ name.clone(): 1 }), json!({ "all": { name.clone(): "t" } })] {
                let error = read::<Outer>("", event).unwrap_err().to_string();
                assert!(error.contains('…') && error.chars().count() < 300, "{}", error.len());
            }
        }
    }
}
