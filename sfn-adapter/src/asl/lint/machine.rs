//! [`Group`] and [`StateRef`]: the states of a definition and their locations.

use std::collections::{BTreeSet, HashMap, HashSet};

use serde_json::{Map, Value};

use super::source::escaped;

/// States that run in one sequence: the states of the machine, of a branch, or of a map.
pub(super) struct Group<'a> {
    /// JSON pointer of the object with `StartAt` and `States`.
    pub(super) pointer: String,
    pub(super) object: &'a Map<String, Value>,
    pub(super) states: Vec<StateRef<'a>>,
    /// Indexes of the states in `states`, by name.
    places: HashMap<&'a str, usize>,
    /// Indexes of the states that lead to a state without an error, by the name of that state.
    before: HashMap<&'a str, Vec<usize>>,
    /// `true` for the states of a branch or a map.
    pub(super) is_inner: bool,
}

/// A state and its location.
#[derive(Clone)]
pub(super) struct StateRef<'a> {
    pub(super) name: &'a str,
    pub(super) pointer: String,
    pub(super) object: &'a Map<String, Value>,
    pub(super) is_jsonata: bool,
}

impl<'a> StateRef<'a> {
    pub(super) fn text(&self, field: &str) -> Option<&'a str> {
        self.object.get(field).and_then(Value::as_str)
    }

    pub(super) fn list(&self, field: &str) -> &'a [Value] {
        self.object.get(field).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    pub(super) fn is(&self, kind: &str) -> bool {
        self.text("Type") == Some(kind)
    }

    /// Returns the states that may follow, with the pointers of the members that name them.
    pub(super) fn successors(&self) -> Vec<(String, &'a str)> {
        let at = |path: &str| format!("{}/{path}", self.pointer);
        let mut found = Vec::new();
        for field in ["Next", "Default"] {
            found.extend(self.text(field).map(|next| (at(field), next)));
        }
        for field in ["Choices", "Catch"] {
            for (number, item) in self.list(field).iter().enumerate() {
                let next = item.get("Next").and_then(Value::as_str);
                found.extend(next.map(|next| (at(&format!("{field}/{number}/Next")), next)));
            }
        }
        found
    }

    /// Returns `true` if a string of the state contains this text. States within the state do not count.
    pub(super) fn contains(&self, part: &str) -> bool {
        self.object.iter().any(|(field, value)| {
            !["Branches", "Iterator", "ItemProcessor"].contains(&field.as_str())
                && value.to_string().contains(part)
        })
    }
}

impl<'a> Group<'a> {
    pub(super) fn state(&self, name: &str) -> Option<&StateRef<'a>> {
        self.places.get(name).and_then(|place| self.states.get(*place))
    }

    /// Returns the states that can follow a state, directly or not.
    pub(super) fn reachable(&self, from: &str) -> BTreeSet<&'a str> {
        self.following(from, |_| true)
    }

    /// Returns the states that can follow a state without an error.
    pub(super) fn reachable_without_errors(&self, from: &str) -> BTreeSet<&'a str> {
        self.following(from, |pointer| !pointer.contains("/Catch/"))
    }

    /// Returns the states from which a state is reached without an error, and without passing a state for
    /// which `ends` is `true`.
    pub(super) fn leading_to(&self, name: &str, ends: impl Fn(&StateRef<'a>) -> bool) -> BTreeSet<&'a str> {
        let (mut reached, mut open) = (BTreeSet::new(), vec![name]);
        while let Some(name) = open.pop() {
            for state in self.before.get(name).into_iter().flatten().map(|place| &self.states[*place]) {
                if !ends(state) && reached.insert(state.name) {
                    open.push(state.name);
                }
            }
        }
        reached
    }

    fn following(&self, from: &str, is_followed: impl Fn(&str) -> bool) -> BTreeSet<&'a str> {
        let (mut reached, mut open) = (BTreeSet::new(), vec![from.to_owned()]);
        while let Some(name) = open.pop() {
            let Some(state) = self.state(&name) else { continue };
            for (pointer, next) in state.successors() {
                if is_followed(&pointer) && reached.insert(next) {
                    open.push(next.to_owned());
                }
            }
        }
        reached
    }
}

/// Returns all groups of a definition, starting with the machine.
pub(super) fn groups(machine: &Map<String, Value>) -> Vec<Group<'_>> {
    let mut groups = Vec::new();
    let is_jsonata = is_jsonata(machine, false);
    add(machine, String::new(), is_jsonata, false, &mut groups);
    groups
}

fn is_jsonata(object: &Map<String, Value>, outer: bool) -> bool {
    object.get("QueryLanguage").and_then(Value::as_str).map_or(outer, |language| language == "JSONata")
}

fn add<'a>(
    object: &'a Map<String, Value>,
    pointer: String,
    jsonata: bool,
    is_inner: bool,
    groups: &mut Vec<Group<'a>>,
) {
    let mut inner = Vec::new();
    let mut states = Vec::new();
    for (name, state) in object.get("States").and_then(Value::as_object).into_iter().flatten() {
        let Some(state) = state.as_object() else { continue };
        let pointer = format!("{pointer}/States/{}", escaped(name));
        let is_jsonata = is_jsonata(state, jsonata);
        for (number, branch) in
            state.get("Branches").and_then(Value::as_array).into_iter().flatten().enumerate()
        {
            inner.extend(
                branch.as_object().map(|branch| (branch, format!("{pointer}/Branches/{number}"), is_jsonata)),
            );
        }
        for field in ["Iterator", "ItemProcessor"] {
            let processor = state.get(field).and_then(Value::as_object);
            inner.extend(processor.map(|processor| (processor, format!("{pointer}/{field}"), is_jsonata)));
        }
        states.push(StateRef { name, pointer, object: state, is_jsonata });
    }
    let places = states.iter().enumerate().map(|(place, state)| (state.name, place)).collect();
    let mut before: HashMap<_, Vec<_>> = HashMap::new();
    for (place, state) in states.iter().enumerate() {
        for (_, next) in state.successors().into_iter().filter(|(pointer, _)| !pointer.contains("/Catch/")) {
            before.entry(next).or_default().push(place);
        }
    }
    groups.push(Group { pointer, object, states, places, before, is_inner });
    for (object, pointer, is_jsonata) in inner {
        add(object, pointer, is_jsonata, true, groups);
    }
}

/// Returns names that occur more than once.
pub(super) fn repeated<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = HashSet::new();
    names.filter(|name| !seen.insert(*name)).collect()
}
