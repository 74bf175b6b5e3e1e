//! [`Source`]: positions of the keys in a pipeline file, with which errors report the line.

use std::{collections::BTreeMap, ops::Range};

use serde::Deserialize;
use serde_json::value::RawValue;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    definition::StepDefinition,
    problem::{Location, Problem},
};
use crate::toml_text::{self, too_deep};

/// Text of a pipeline file with the positions of its keys.
pub(super) struct Source<'a> {
    text: &'a str,
    head: Keys,
    steps: Vec<Keys>,
}

/// Keys of a table by name. The range of each key begins with the key and ends with its value.
#[derive(Default)]
struct Keys {
    at: usize,
    name: Option<String>,
    keys: BTreeMap<String, Range<usize>>,
}

impl<'a> Source<'a> {
    /// Reads the positions from TOML. If the text is not valid TOML, there are no keys.
    pub(super) fn toml(text: &'a str) -> Self {
        let mut source = Self { text, head: Keys::default(), steps: Vec::new() };
        if too_deep(text).is_some() {
            return source;
        }
        let Ok(table) = DeTable::parse(text) else { return source };
        source.head = keys_of_toml(table.span().start, table.get_ref());
        for (key, value) in table.get_ref() {
            if let ("steps", DeValue::Array(steps)) = (&**key.get_ref(), value.get_ref()) {
                source.steps = steps.iter().map(step_of_toml).collect();
            }
        }
        source
    }

    /// Reads the positions from JSON. If the text is not valid JSON, there are no keys.
    pub(super) fn json(text: &'a str) -> Self {
        let mut source = Self { text, head: Keys::default(), steps: Vec::new() };
        source.head = source.keys_of_json(0, text);
        if let Some(steps) = source.head.keys.get("steps") {
            let value = text[steps.clone()].find('[').map_or("", |at| &text[steps.start + at..steps.end]);
            let steps: Vec<&RawValue> = serde_json::from_str(value).unwrap_or_default();
            let parts = steps.into_iter().map(|step| source.keys_of_json(source.offset(step), step.get()));
            source.steps = parts.collect();
        }
        source
    }

    /// Returns the number of the line that contains a byte, starting at 1.
    pub(super) fn line(&self, offset: usize) -> usize {
        toml_text::line(self.text, offset)
    }

    /// Returns the line of the key in which a problem was found. If the step has no such key, returns the
    /// line of the step.
    pub(super) fn line_of(&self, problem: &Problem) -> Option<usize> {
        let Location { key, needle } = &problem.location;
        let keys = match problem.step {
            Some((_, number)) => self.steps.get(number)?,
            None => &self.head,
        };
        let range = match *key {
            "work" => StepDefinition::WORK.iter().find_map(|key| keys.keys.get(*key)),
            key => keys.keys.get(key),
        };
        let Some(range) = range else {
            return problem.step.is_some().then(|| self.line(keys.at));
        };
        let within = self.text.get(range.clone()).unwrap_or_default();
        let exact = within.find(&format!("\"{needle}\"")).filter(|_| !needle.is_empty());
        let found = exact.or_else(|| within.find(needle)).unwrap_or(0);
        Some(self.line(range.start + found))
    }

    /// Returns the name of the step that contains a byte, or its number if the step has no name.
    pub(super) fn step_around(&self, offset: usize) -> Option<String> {
        let (index, step) = self.steps.iter().enumerate().rfind(|(_, step)| step.at <= offset)?;
        let end = step.keys.values().map(|range| range.end).max().unwrap_or(step.at);
        // The parsers report a missing key at the beginning of its table. Bytes after the end of a step do
        // not belong to it.
        (offset <= end || offset == step.at)
            .then(|| step.name.clone().unwrap_or_else(|| format!("number {}", index + 1)))
    }

    fn offset(&self, value: &RawValue) -> usize {
        // The value borrows from `self.text`, so the difference of the addresses is its offset.
        (value.get().as_ptr() as usize).saturating_sub(self.text.as_ptr() as usize).min(self.text.len())
    }

    fn keys_of_json(&self, at: usize, text: &str) -> Keys {
        #[derive(Deserialize)]
        struct Table<'a>(#[serde(borrow)] BTreeMap<String, &'a RawValue>);
        let Ok(Table(table)) = serde_json::from_str(text) else { return Keys::default() };
        let name = table.get("name").and_then(|name| serde_json::from_str(name.get()).ok());
        let key = |(key, value): (String, &RawValue)| {
            // The value borrows from `text`, so the difference of the addresses is its offset in `text`.
            let begin = at + (value.get().as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
            let before = self.text.get(at..begin).unwrap_or_default();
            let key_at = before.rfind(&format!("\"{key}\"")).map_or(begin, |found| at + found);
            (key, key_at..begin + value.get().len())
        };
        Keys { at, name, keys: table.into_iter().map(key).collect() }
    }
}

fn step_of_toml(step: &Spanned<DeValue<'_>>) -> Keys {
    match step.get_ref() {
        DeValue::Table(table) => keys_of_toml(step.span().start, table),
        _ => Keys { at: step.span().start, ..Keys::default() },
    }
}

fn keys_of_toml(at: usize, table: &DeTable<'_>) -> Keys {
    let mut keys = Keys { at, ..Keys::default() };
    for (key, value) in table {
        if let ("name", DeValue::String(name)) = (&**key.get_ref(), value.get_ref()) {
            keys.name = Some(name.to_string());
        }
        let range = key.span().start..end(value).max(key.span().end);
        keys.keys.insert(key.get_ref().to_string(), range);
    }
    keys
}

/// Returns the end of a value. The span of a table covers only its header, so the end of a table is the end
/// of its last value.
fn end(value: &Spanned<DeValue<'_>>) -> usize {
    let own = value.span().end;
    match value.get_ref() {
        DeValue::Table(table) => table.values().map(end).fold(own, usize::max),
        DeValue::Array(array) => array.iter().map(end).fold(own, usize::max),
        _ => own,
    }
}
