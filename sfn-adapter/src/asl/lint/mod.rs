//! Finds mistakes in state machines: those that fail at runtime, those that lose an outcome, and those that run
//! a statement twice.

mod fields;
mod language;
mod machine;
mod requests;
mod source;
mod statements;
mod structure;

use serde::Serialize;

use machine::{Group, StateRef};
use source::Source;

/// Weight of a [`Finding`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The machine is rejected, fails, or reports a wrong outcome.
    Error,
    /// The machine works, and loses time, money or a statement in some cases.
    Warning,
}

/// A mistake in a state machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Finding {
    /// Id of the rule; [`RULES`] lists all of them.
    pub rule: &'static str,
    /// Weight.
    pub severity: Severity,
    /// Name of the state, unless the finding is about the whole machine.
    pub state: Option<String>,
    /// JSON pointer of the value.
    pub pointer: String,
    /// Line of the value, starting at 1.
    pub line: usize,
    /// The mistake and its effect.
    pub reason: String,
    /// The way out.
    pub fix: String,
}

/// A rule: its id, the weight of its findings, and its subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Rule {
    /// Id.
    pub id: &'static str,
    /// Weight of its findings.
    pub severity: Severity,
    /// The mistake that it finds.
    pub finds: &'static str,
}

const fn error(id: &'static str, finds: &'static str) -> Rule {
    Rule { id, severity: Severity::Error, finds }
}

const fn warning(id: &'static str, finds: &'static str) -> Rule {
    Rule { id, severity: Severity::Warning, finds }
}

/// All rules.
pub const RULES: [Rule; 32] = [
    error("missing-target", "a transition to a state that does not exist"),
    error("unreachable-state", "a state that no transition reaches"),
    error("no-end", "states of which none ends"),
    error("next-or-end", "a state with both, or neither, of Next and End"),
    error("repeated-name", "two states with one name"),
    error("long-name", "a state's name of more than 80 characters"),
    error("unknown-type", "a type of state that does not exist"),
    error("unknown-field", "a field that a state of this type does not have"),
    error("required-field", "a field that is missing"),
    error("wait-time", "a Wait with no time or with several"),
    error("literal-path", "a Fail whose Error or Cause is a path as a literal text"),
    error("error-and-path", "a Fail with both Error and ErrorPath, or Cause and CausePath"),
    error("mixed-languages", "a field of the other query language"),
    error("literal-expression", "a path in a payload under a name without .$"),
    error("no-expression", "a payload name with .$ whose value is not an expression"),
    error("unmarked-jsonata", "an expression of JSONata without {% and %}"),
    error("error-order", "States.ALL that is not alone and last"),
    error("unknown-error", "a predefined error name that does not exist"),
    error("jitter", "a JitterStrategy that does not exist"),
    error("retry-numbers", "a Retry with numbers that the service rejects"),
    error("heartbeat", "a HeartbeatSeconds that is not shorter than TimeoutSeconds"),
    error("callback-token", "a callback whose request does not carry the task token"),
    error("callback-timeout", "a callback that may wait for a year"),
    error("unsupported-sync", ".sync, or an optimized integration, where the service has none"),
    error("aborted", "a loop on the status of a statement that ABORTED does not end"),
    error("unstable-token", "a client token that changes when a state is retried"),
    error("retry-without-token", "a retried submit without a client token, which runs the statement twice"),
    warning("unknown-status", "a loop on the status of a statement that an unknown status does not end"),
    warning("no-cancel", "a timeout that leaves the statement running"),
    warning("siblings", "a branch that fails while its siblings' statements run"),
    warning("history", "a loop whose history does not fit a statement of 24 hours"),
    warning("no-timeout", "a task without a timeout in a machine without one"),
];

/// Checks a definition. Findings are in the order of the file.
///
/// ```
/// let findings = sfn_adapter::asl::lint(r#"{
///   "StartAt": "Failed",
///   "States": { "Failed": { "Type": "Fail", "Error": "$.Result.Error" } }
/// }"#)?;
/// assert_eq!(findings[0].rule, "literal-path");
/// assert_eq!(findings[0].pointer, "/States/Failed/Error");
/// assert_eq!(findings[0].line, 3);
/// # Ok::<(), serde_json::Error>(())
/// ```
///
/// # Errors
/// Returns the JSON parser's message for a text that is not JSON.
pub fn lint(text: &str) -> Result<Vec<Finding>, serde_json::Error> {
    let source = Source::parse(text)?;
    let mut report = Report { source: &source, findings: Vec::new() };
    match source.value.as_object() {
        Some(machine) => {
            let groups = machine::groups(machine);
            structure::check(&groups, &mut report);
            for state in groups.iter().flat_map(|group| &group.states) {
                fields::check(state, &mut report);
                language::check(state, &mut report);
                requests::check(state, &mut report);
            }
            statements::check(&groups, &mut report);
        }
        None => report.add(
            "required-field",
            None,
            "",
            "the definition is not an object",
            "write an object with StartAt and States",
        ),
    }
    let mut findings = report.findings;
    findings.sort_by(|one, other| {
        (one.line, &one.pointer, one.rule).cmp(&(other.line, &other.pointer, other.rule))
    });
    Ok(findings)
}

/// Collects findings.
struct Report<'a> {
    source: &'a Source,
    findings: Vec<Finding>,
}

impl Report<'_> {
    fn add(
        &mut self,
        rule: &'static str,
        state: Option<&StateRef<'_>>,
        pointer: &str,
        reason: impl Into<String>,
        fix: impl Into<String>,
    ) {
        let severity =
            RULES.iter().find(|known| known.id == rule).map_or(Severity::Error, |rule| rule.severity);
        self.findings.push(Finding {
            rule,
            severity,
            state: state.map(|state| state.name.to_owned()),
            pointer: pointer.to_owned(),
            line: self.source.line(pointer),
            reason: reason.into(),
            fix: fix.into(),
        });
    }

    /// Adds a finding about a member of a state.
    fn at(
        &mut self,
        rule: &'static str,
        state: &StateRef<'_>,
        path: &str,
        reason: impl Into<String>,
        fix: impl Into<String>,
    ) {
        let pointer =
            if path.is_empty() { state.pointer.clone() } else { format!("{}/{path}", state.pointer) };
        self.add(rule, Some(state), &pointer, reason, fix);
    }
}
