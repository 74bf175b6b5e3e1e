//! Finds mistakes in state machines that make them fail at runtime, lose an outcome, or run a statement
//! twice.

mod fields;
mod language;
mod machine;
mod requests;
mod source;
mod statements;
mod status;
mod structure;
mod values;

use serde::Serialize;

use machine::{Group, StateRef};
use source::Source;

/// Severity of a [`Finding`].
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
    /// Severity.
    pub severity: Severity,
    /// Name of the state, unless the finding is about the whole machine.
    pub state: Option<String>,
    /// JSON pointer of the value.
    pub pointer: String,
    /// Line of the value, starting at 1.
    pub line: usize,
    /// The mistake and its effect.
    pub reason: String,
    /// How to correct the mistake.
    pub fix: String,
}

/// A rule: its id, the severity of its findings, and its subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Rule {
    /// Id.
    pub id: &'static str,
    /// Severity of its findings.
    pub severity: Severity,
    /// The mistake that the rule finds.
    pub finds: &'static str,
}

const fn error(id: &'static str, finds: &'static str) -> Rule {
    Rule { id, severity: Severity::Error, finds }
}

const fn warning(id: &'static str, finds: &'static str) -> Rule {
    Rule { id, severity: Severity::Warning, finds }
}

/// All rules.
pub const RULES: [Rule; 35] = [
    error("missing-target", "a transition to a state that does not exist"),
    error("unreachable-state", "a state that no transition reaches"),
    error("no-end", "a machine in which no state ends"),
    error("next-or-end", "a state with both, or neither, of Next and End"),
    error("repeated-name", "two states with the same name, or a repeated name in one object"),
    error("long-name", "a state name with more than 80 characters"),
    error("unknown-type", "a type of state that does not exist"),
    error("unknown-field", "a field that a state of this type does not have"),
    error("required-field", "a field that is missing"),
    error("wait-time", "a Wait with no time or with several"),
    error("literal-path", "a Fail whose Error or Cause is a path written as a literal string"),
    error("error-and-path", "a Fail with both Error and ErrorPath, or Cause and CausePath"),
    error("mixed-languages", "a field of the other query language"),
    error("literal-expression", "a path in a payload under a name without .$"),
    error("no-expression", "a payload name with .$ whose value is not an expression"),
    error("unmarked-jsonata", "a JSONata expression without {% and %}"),
    error("error-order", "States.ALL that is not alone and last"),
    error("unknown-error", "a predefined error name that does not exist"),
    error("jitter", "a JitterStrategy that does not exist"),
    error("retry-numbers", "a Retry with numbers that the service rejects"),
    error("timeout", "a timeout that is not a number of seconds, or is given twice"),
    error("heartbeat", "a HeartbeatSeconds that is not shorter than TimeoutSeconds"),
    error("callback-token", "a callback whose request does not carry the task token"),
    error("callback-timeout", "a callback that may wait for a year"),
    error("unsupported-sync", ".sync, or an optimized integration, where the service has none"),
    error("aborted", "a loop on a statement's status that does not end at ABORTED, FAILED or FINISHED"),
    error("unstable-token", "a client token that changes when a state is retried"),
    error("retry-without-token", "a retried submit without a client token, which runs the statement twice"),
    warning("retried-job", "a retried start of a Glue job, which may run the job twice"),
    warning("unknown-status", "a loop on a statement's status that does not end at an unknown status"),
    warning("no-cancel", "a timeout that leaves the statement running"),
    warning("siblings", "a branch that fails while its siblings' statements run"),
    warning("history", "a loop whose history is too long for a statement of 24 hours"),
    warning("no-default", "a choice that fails if none of its rules applies"),
    warning("no-timeout", "a task without a timeout in a machine without one"),
];

/// Checks a definition. Findings are returned in the order of the file.
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
/// Returns the JSON parser's message if the text is not JSON.
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
                values::check(state, &mut report);
            }
            statements::check(&groups, &mut report);
            for pointer in &source.repeated {
                report.add(
                    "repeated-name",
                    None,
                    pointer,
                    "the name is written twice in one object, and the first value has no effect",
                    "remove or rename one of them",
                );
            }
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
