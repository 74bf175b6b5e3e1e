//! The identity of a statement: [`StepKey`], client token and statement name.
//!
//! Two submits refer to the same statement if their pipeline, scope, compute, database, run, step, attempt,
//! SQL and parameters are equal. The client token is a digest of these values. The statement name ends with a
//! part of the digest.

use std::{fmt, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{ClientToken, Compute, Error, ErrorKind, ExecutionMode, Result, Statement, StatementId, Target};

/// Allowed difference between the clock of this machine and the clock of the service.
///
/// The service rejects a request if the time in its signature differs from the service's clock by more than 5
/// minutes, so a process with a larger difference cannot submit at all.
const CLOCK_SKEW: Duration = Duration::from_secs(5 * 60);

/// Prefix of every client token. It identifies this crate and the version of the token's format. Tokens of
/// version 1 had no prefix and did not depend on the pipeline or the target.
const TOKEN_FORM: &str = "ro2-";

/// Values that distinguish a statement from an equal statement of another pipeline or database.
#[derive(Clone, Debug, Default)]
pub(crate) struct Namespace {
    /// Name set by the caller.
    pub(crate) scope: Option<String>,
    pub(crate) pipeline: Option<String>,
    /// Target of the executor, if known.
    pub(crate) target: Option<Target>,
}

impl Namespace {
    pub(crate) fn check(&self) -> Result<()> {
        for (what, text) in [("scope", &self.scope), ("pipeline", &self.pipeline)] {
            if let Some(text) = text {
                check_name(what, text)?;
            }
        }
        Ok(())
    }

    /// Returns the database in which the statement runs, if it is known before the submit.
    fn target<'a>(&'a self, statement: &'a Statement) -> Option<&'a Target> {
        match (statement.target(), statement.session()) {
            (Some(target), _) => Some(target),
            // The statement runs on the target of its session, which may differ from the default target.
            (None, Some(_)) => None,
            (None, None) => self.target.as_ref(),
        }
    }

    /// Returns the client token of an attempt: SHA-256 of the namespace, the key, the SQL texts, the
    /// execution mode, the parameters and the target. The authentication is left out, so the token is the
    /// same for every user.
    ///
    /// The SQL is part of the token, because AWS does not document the effect of a token that is used again
    /// with different SQL.
    pub(crate) fn client_token(&self, key: &StepKey, statement: &Statement) -> Result<ClientToken> {
        let mut digest = Digester::new("redshift-orchestrator token 2");
        digest.option(self.scope.as_deref()).option(self.pipeline.as_deref());
        match self.target(statement).or(self.target.as_ref()) {
            None => digest.text("no target"),
            Some(target) => {
                let (kind, compute) = match target.compute() {
                    Compute::Cluster(identifier) => ("cluster", identifier),
                    Compute::Workgroup(name) => ("workgroup", name),
                };
                digest.text(kind).text(compute).text(target.database())
            }
        };
        digest.text(&key.run).text(&key.step).text(&key.attempt.to_string());
        if let Some(part) = key.part {
            // Two parts may contain the same statements.
            digest.text("part").text(&part.number.to_string()).text(&part.of.to_string());
        }
        digest.text(match statement.execution_mode() {
            None => "single",
            Some(ExecutionMode::Transaction) => "transaction",
            Some(ExecutionMode::AutoCommit) => "auto-commit",
        });
        digest.list(statement.sqls().iter().map(String::as_str));
        digest.list(statement.parameters().iter().flat_map(|p| [p.name.as_str(), p.value.as_str()]));
        // The service allows 64 characters: 4 for the prefix, and 60 for 240 bits of the digest.
        let digits = digest.finish();
        ClientToken::new(format!("{TOKEN_FORM}{}", digits.get(..60).unwrap_or(&digits)))
    }

    /// Returns the statement name of an attempt: `pipeline/run/step/attempt digest`. The digest is the
    /// beginning of the token's digest, so a listing by name finds only this statement.
    pub(crate) fn statement_name(&self, key: &StepKey, token: &ClientToken) -> String {
        format!("{}{key} {}", self.name_prefix(), short_digest(token))
    }

    /// Returns the beginning of statement names: `scope/pipeline/`.
    pub(crate) fn name_prefix(&self) -> String {
        [&self.scope, &self.pipeline].into_iter().flatten().map(|name| format!("{name}/")).collect()
    }

    /// Returns the text of the target for the journal, without the authentication. Returns `None` if the
    /// target is not known.
    pub(crate) fn recorded_target(&self, statement: &Statement) -> Option<String> {
        self.target_in_service(statement).map(|target| target.to_string())
    }

    /// Returns the target with the name of the executor's service, in which every statement runs.
    fn target_in_service(&self, statement: &Statement) -> Option<Target> {
        let target = self.target(statement).or(self.target.as_ref())?.clone();
        Some(match self.target.as_ref().and_then(Target::service_name) {
            Some(name) if target.service_name().is_none() => target.with_service_name(name),
            _ => target,
        })
    }

    /// Rejects a journal entry for this attempt if it belongs to another scope, pipeline or target, or if it
    /// is not the entry of a statement. `name` and `target` are the recorded values; an entry of an earlier
    /// version has no target.
    ///
    /// # Errors
    /// Returns [`ErrorKind::StepKeyConflict`].
    pub(crate) fn check_record(
        &self,
        key: &StepKey,
        statement: &Statement,
        name: &str,
        target: Option<&str>,
    ) -> Result<()> {
        let conflict = |was: &str, is: &str| Err(key_conflict(key, was, is));
        let prefix = self.name_prefix();
        let recorded = name.rsplit_once(' ').and_then(|(name, _)| name.strip_suffix(&key.to_string()));
        let named = |prefix: &str| match prefix.trim_end_matches('/') {
            "" => "no scope and no pipeline".to_owned(),
            names => format!("the scope or pipeline `{names}`"),
        };
        match recorded {
            Some(recorded) if recorded != prefix => return conflict(&named(recorded), &named(&prefix)),
            Some(_) => {}
            None => return conflict(&format!("`{}`", target.unwrap_or(name)), "an SQL statement"),
        }
        match (target, self.target_in_service(statement)) {
            (Some(was), Some(is)) if !is.is_recorded_as(was) => conflict(was, &is.to_string()),
            _ => Ok(()),
        }
    }

    /// Rejects a statement that the service returned for this attempt, but that was created before the intent
    /// or runs in another database. It belongs to another caller.
    ///
    /// # Errors
    /// Returns [`ErrorKind::IdentityConflict`].
    pub(crate) fn check_response(
        &self,
        statement: &Statement,
        intended_at: Timestamp,
        id: &StatementId,
        created_at: Option<Timestamp>,
        target: Option<&Target>,
    ) -> Result<()> {
        let conflict = |text: String| {
            Err(Error::new(ErrorKind::IdentityConflict, text).with_context("other_statement_id", id))
        };
        let way_out =
            "give the orchestrator a scope (`Orchestrator::with_scope`), or use another name for the run";
        if let Some(at) = created_at
            && is_before(at, intended_at)
        {
            return conflict(format!(
                "the service returned a statement that was created at {at}, before the intent of this one was \
                 written at {intended_at}; if the journal with the first intent was lost, or the clock was wrong at the \
                 intent, it is this statement: settle the attempt; otherwise, it belongs to another pipeline: {way_out}"
            ));
        }
        match (self.target(statement), target) {
            (Some(expected), Some(found)) if !expected.is_same_database(found) => conflict(format!(
                "the service returned another statement, which runs in {found} and not in {expected}; {way_out}"
            )),
            _ => Ok(()),
        }
    }
}

/// Returns the error for an attempt whose journal entry belongs to other work.
pub(crate) fn key_conflict(key: &StepKey, was: &str, is: &str) -> Error {
    let text = format!(
        "the journal has an entry for this attempt that belongs to {was}, not to {is}; use another name for the run, \
         or a separate journal"
    );
    Error::new(ErrorKind::StepKeyConflict, text).with_context("step", key)
}

/// Returns `true` if a statement with this creation time was created before the intent was written, even with
/// the maximum clock skew.
pub(crate) fn is_before(created_at: Timestamp, intended_at: Timestamp) -> bool {
    created_at.saturating_add(CLOCK_SKEW).unwrap_or(Timestamp::MAX) < intended_at
}

/// Returns the first 16 digits of the digest in a token.
pub(crate) fn short_digest(token: &ClientToken) -> &str {
    let token = token.as_str();
    let digits = token.strip_prefix(TOKEN_FORM).unwrap_or(token);
    digits.get(..16).unwrap_or(digits)
}

/// Key of an attempt at a step of a run. A statement runs at most once for each key.
///
/// Equal keys, SQL and parameters produce the same client token, even in another process and without a
/// journal. The name of a run must therefore identify its work, such as `sales-2026-11-23T06:30`, and must
/// not be generated by each process. A process without the journal of an earlier one continues only the
/// statements of the last 5 minutes; see [`MemoryJournal`](crate::journal::MemoryJournal).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StepKey {
    /// Name of the run.
    pub run: String,
    /// Name of the step.
    pub step: String,
    /// Number of the attempt, starting at 1.
    pub attempt: u32,
    /// Part of the step's batch, if the batch exceeds the service's maximum.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<BatchPart>,
}

/// Number of a part of a batch that was [divided](crate::Statement::parts).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BatchPart {
    /// Number of the part, starting at 1.
    pub number: u32,
    /// Total number of parts.
    pub of: u32,
}

impl BatchPart {
    /// Creates the part with number `number`, starting at 1, of `of` parts in total.
    pub fn new(number: u32, of: u32) -> Self {
        Self { number, of }
    }
}

impl fmt::Display for BatchPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "part {} of {}", self.number, self.of)
    }
}

impl StepKey {
    /// Creates the key of the first attempt at a step of a run.
    pub fn new(run: impl Into<String>, step: impl Into<String>) -> Self {
        Self { run: run.into(), step: step.into(), attempt: 1, part: None }
    }

    /// Sets the number of the attempt.
    #[must_use]
    pub fn with_attempt(mut self, attempt: u32) -> Self {
        self.attempt = attempt;
        self
    }

    /// Returns the client token that an [`Orchestrator`](crate::Orchestrator) without a scope sets for this
    /// statement outside of a pipeline. `target` is the default target of its executor.
    ///
    /// The token depends on run, step, attempt, compute, database, SQL and parameters.
    ///
    /// # Errors
    /// Returns [`ErrorKind::Invalid`] if the token is not valid.
    pub fn client_token(&self, target: Option<&Target>, statement: &Statement) -> Result<ClientToken> {
        Namespace { target: target.cloned(), ..Namespace::default() }.client_token(self, statement)
    }

    /// Returns the key of a part of this attempt.
    pub(crate) fn with_part(&self, part: BatchPart) -> Self {
        Self { part: Some(part), ..self.clone() }
    }

    /// Returns the step and its part in human-readable form.
    #[doc(hidden)]
    pub fn step_and_part(&self) -> String {
        match self.part {
            Some(part) => format!("{} {part}", self.step),
            None => self.step.clone(),
        }
    }

    /// Rejects names that are too long for a statement name, or that contain control characters.
    pub(crate) fn check(&self) -> Result<()> {
        check_name("run", &self.run)?;
        check_name("step", &self.step)
    }
}

fn check_name(what: &'static str, text: &str) -> Result<()> {
    if (1..=MAX_NAME).contains(&text.chars().count()) && !text.chars().any(char::is_control) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Invalid,
        format!("the name of a {what} has 1 to {MAX_NAME} characters, none of them a control character"),
    )
    .with_context(what, text.escape_debug()))
}

/// Maximum length of each name, in characters. It ensures that scope, pipeline, run, step, attempt and digest
/// fit in the 2048 characters of a statement name.
pub(crate) const MAX_NAME: usize = 200;

impl fmt::Display for StepKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.run, self.step, self.attempt)?;
        self.part.map_or(Ok(()), |part| write!(f, " {part}"))
    }
}

/// Hashes texts together with their lengths, so that no two lists of texts produce the same bytes.
struct Digester(Sha256);

impl Digester {
    fn new(domain: &str) -> Self {
        let mut digester = Self(Sha256::new());
        digester.text(domain);
        digester
    }

    fn text(&mut self, text: &str) -> &mut Self {
        self.0.update((text.len() as u64).to_be_bytes());
        self.0.update(text.as_bytes());
        self
    }

    fn option(&mut self, text: Option<&str>) -> &mut Self {
        self.list(text.into_iter())
    }

    fn list<'a>(&mut self, texts: impl Iterator<Item = &'a str>) -> &mut Self {
        let texts: Vec<_> = texts.collect();
        self.0.update((texts.len() as u64).to_be_bytes());
        for text in texts {
            self.text(text);
        }
        self
    }

    fn finish(self) -> String {
        format!("{:x}", self.0.finalize())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(key: &StepKey, statement: &Statement) -> String {
        Namespace::default().client_token(key, statement).unwrap().to_string()
    }

    #[test]
    fn the_token_never_changes_between_versions() {
        // After a change of the format, an upgrade would run every statement in flight a second time.
        let key = StepKey::new("cycle-007", "load-sales");
        let statement = Statement::sql("CALL load_sales(:cycle)").with_parameter("cycle", "7");
        let namespace = Namespace {
            scope: None,
            pipeline: Some("cycle".to_owned()),
            target: Some(Target::workgroup("dwh", "mystore")),
        };
        let token = namespace.client_token(&key, &statement).unwrap();
        assert_eq!(token.as_str(), "ro2-a43f723f89dffca75be975dccc42a149a71491ed10b807d09ddcb6850db1");
        assert_eq!(token.as_str().len(), 64);
    }

    #[test]
    fn every_part_of_the_identity_changes_the_token() {
        let key = StepKey::new("r", "s");
        let base = Statement::sql("SELECT :a").with_parameter("a", "1");
        let place = |scope: Option<&str>, pipeline: Option<&str>, target: Option<Target>| {
            let namespace =
                Namespace { scope: scope.map(str::to_owned), pipeline: pipeline.map(str::to_owned), target };
            namespace.client_token(&key, &base).unwrap().to_string()
        };
        let tokens = [
            token(&key, &base),
            place(Some("a"), None, None),
            place(None, Some("a"), None),
            place(None, Some("b"), None),
            place(None, None, Some(Target::cluster("dwh", "prod"))),
            place(None, None, Some(Target::cluster("dwh", "dev"))),
            token(&key.clone().with_attempt(2), &base),
            token(&StepKey::new("r", "t"), &base),
            token(&key.with_part(BatchPart { number: 1, of: 2 }), &base),
            token(&key.with_part(BatchPart { number: 2, of: 2 }), &base),
            token(&StepKey::new("rs", ""), &base),
            token(&key, &Statement::sql("SELECT :a").with_parameter("a", "2")),
            token(&key, &Statement::sql("SELECT :a").with_parameter("b", "1")),
            token(&key, &Statement::batch(["SELECT :a"]).with_parameter("a", "1")),
            token(
                &key,
                &Statement::batch(["SELECT :a"])
                    .with_parameter("a", "1")
                    .with_execution_mode(ExecutionMode::AutoCommit),
            ),
            token(&key, &Statement::batch(["SELECT", ":a"]).with_parameter("a", "1")),
            token(&key, &base.clone().with_target(Target::cluster("dwh", "mystore"))),
            token(&key, &base.clone().with_target(Target::workgroup("dwh", "mystore"))),
            token(&key, &base.clone().with_target(Target::cluster("dwh", "other"))),
        ];
        let distinct: std::collections::BTreeSet<_> = tokens.iter().collect();
        assert_eq!(distinct.len(), tokens.len());
        let executor = place(None, None, Some(Target::cluster("dwh", "mystore").with_database_user("etl")));
        assert_eq!(executor, token(&key, &base.with_target(Target::cluster("dwh", "mystore"))));
    }

    #[test]
    fn the_name_begins_with_the_pipeline_and_ends_with_the_digest() {
        let key = StepKey::new("cycle-007", "load-sales").with_attempt(2);
        let token = ClientToken::new("ro2-0123456789abcdef0123").unwrap();
        let mut namespace = Namespace { pipeline: Some("cycle".to_owned()), ..Namespace::default() };
        assert_eq!(namespace.statement_name(&key, &token), "cycle/cycle-007/load-sales/2 0123456789abcdef");
        namespace.scope = Some("dev".to_owned());
        assert!(namespace.statement_name(&key, &token).starts_with("dev/cycle/cycle-007/"));
    }
}
