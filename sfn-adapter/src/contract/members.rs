//! Reads the members of an event, and explains in one sentence why they are not valid.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::VERSION;
use crate::Error;

/// Parses the text of an event as a JSON object.
pub(super) fn object(event: &str) -> Result<Map<String, Value>, Error> {
    let is = match serde_json::from_str(event) {
        Ok(Value::Object(members)) => return Ok(members),
        Ok(Value::Array(_)) => "a list".to_owned(),
        Ok(Value::String(_)) => "a text".to_owned(),
        Ok(other) => other.to_string(),
        Err(error) => return Err(Error::BadInput(format!("the event is not valid JSON: {error}"))),
    };
    Err(Error::BadInput(format!("the event is {is}; send a JSON object")))
}

/// Removes the member `version`, and checks it.
pub(super) fn take_version(event: &mut Map<String, Value>) -> Result<(), Error> {
    match event.remove("version") {
        Some(version) if version == VERSION => Ok(()),
        Some(_) => Err(Error::BadInput(format!(
            "`version` of the event is not supported; this function supports version {VERSION}"
        ))),
        None => Err(Error::BadInput(format!("the event lacks the member `version`; send {VERSION}"))),
    }
}

/// Reads the members of `place`, the event or a member of it.
pub(super) fn read<T: DeserializeOwned>(place: &str, members: Value) -> Result<T, Error> {
    serde_path_to_error::deserialize(members).map_err(|error| {
        let path = error.path().to_string();
        Error::BadInput(explained(place, &path, &error.inner().to_string()))
    })
}

/// Turns a message of serde into a sentence that names the member and quotes no value, because the value may
/// be SQL.
fn explained(place: &str, path: &str, message: &str) -> String {
    let place = if place.is_empty() { "the event".to_owned() } else { format!("`{place}`") };
    let member_at = |path: &str| match path {
        "" | "." | "?" => place.clone(),
        path => format!("`{path}` of {place}"),
    };
    if let Some((name, known)) = quoted(message, "unknown field `") {
        let parent = path.strip_suffix(name).unwrap_or(path).trim_end_matches('.');
        return format!("{} has no member `{name}`; {known}", member_at(parent));
    }
    let member = member_at(path);
    if let Some((name, _)) = quoted(message, "missing field `") {
        return format!("{member} lacks the member `{name}`");
    }
    if let Some((_, known)) = quoted(message, "unknown variant `") {
        return format!("{member} has an unknown value; {known}");
    }
    match message.rsplit_once(", expected ") {
        Some((_, expected)) => format!("{member} must be {}", in_words(expected)),
        None => format!("{member} {message}"),
    }
}

/// Splits ``unknown field `x`, expected one of `a`, `b` `` into the name and the names that are known.
fn quoted<'a>(message: &'a str, beginning: &str) -> Option<(&'a str, String)> {
    let (name, rest) = message.strip_prefix(beginning)?.split_once('`')?;
    let known = match rest.trim_start_matches(", expected ").trim_start_matches("one of ") {
        ", there are no fields" => "remove it".to_owned(),
        known => format!("use {known}"),
    };
    Some((name.get(..40).unwrap_or(name), known))
}

/// Returns a name of a type as JSON's users say it.
fn in_words(expected: &str) -> &str {
    match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number of 0 or more",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a map" | "map" => "an object",
        "a string" | "string or map" => "a text",
        other => other,
    }
}
