//! Checks a statement against the service's rules before it is sent, and divides a batch that is too long.

use super::{Body, Commits, ExecutionMode, MAX_BATCH, Parameter, Statement};
use crate::{
    Error, ErrorKind, Result,
    sql::{self, Token, outside_transaction, tokens},
};

impl Statement {
    /// Declares if one of the statements commits by itself, for example by calling a procedure that contains
    /// `COMMIT` or `TRUNCATE`. Default: [`Commits::Detected`].
    ///
    /// A commit inside a batch either ends the transaction of the batch or fails, so [`check`](Self::check)
    /// rejects it in [`ExecutionMode::Transaction`]. Without a declaration, `check` recognises `TRUNCATE` and
    /// transaction control in the SQL text, but does not inspect procedures. With [`Commits::No`], it accepts
    /// a batch that contains such statements.
    #[must_use]
    pub fn with_commits(mut self, commits: Commits) -> Self {
        self.commits = commits;
        self
    }

    /// Rejects a statement that the service would reject, or would not run as it is written. The error
    /// suggests a remedy. An orchestrator checks each statement before it writes the intent to the journal.
    ///
    /// | rejected | because |
    /// |---|---|
    /// | an empty batch, or more than 40 statements | the service accepts 1 to 40; see [`parts`](Self::parts) for longer batches |
    /// | a parameter name that contains anything but letters, digits and `_`, or occurs twice | the service does not accept it |
    /// | the character NUL in SQL or a value | the database does not accept it |
    /// | an empty value | the service does not accept it; [`bind`](Self::bind) writes it into the SQL |
    /// | a parameter that no statement uses | at least one statement of a batch must use each parameter |
    /// | a placeholder without a parameter, if there are other parameters | the service rejects it |
    /// | `TRUNCATE`, transaction control, or a declared commit in a transaction batch | the batch would not be atomic |
    /// | `VACUUM`, `CREATE DATABASE`, `ALTER TABLE … APPEND` and similar commands in a transaction batch | Redshift rejects them inside a transaction |
    ///
    /// # Errors
    /// Returns [`ErrorKind::Invalid`] with the parameter's name or the statement's number, never with SQL or
    /// a value.
    pub fn check(&self) -> Result<()> {
        let count = self.sqls().len();
        match self.execution_mode() {
            Some(_) if count == 0 => return Err(invalid("a batch has at least one statement")),
            Some(ExecutionMode::AutoCommit) if count > MAX_BATCH => {
                return Err(invalid(format!(
                    "a batch has at most {MAX_BATCH} statements, and this one has {count}; run it with `Orchestrator::run_batch`, \
                     which divides it into several batches"
                )));
            }
            Some(_) if count > MAX_BATCH => return Err(indivisible(count)),
            _ => {}
        }
        if let Some((number, _)) = (1..).zip(self.sqls()).find(|(_, sql)| sql.contains('\0')) {
            let text = "the SQL contains the character NUL, which the database does not accept; remove it";
            return Err(invalid(text).with_context("statement_number", number));
        }
        self.check_parameters()?;
        self.check_commits()
    }

    fn check_parameters(&self) -> Result<()> {
        let used: Vec<_> = self.sqls().iter().flat_map(|sql| sql::placeholders(sql)).collect();
        for (index, Parameter { name, value }) in self.parameters.iter().enumerate() {
            let about = |text: String| Err(invalid(text).with_context("parameter", name.escape_debug()));
            if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
                return about("the name of a parameter consists of letters, digits and `_`; rename it here and in the SQL".into());
            }
            if value.contains('\0') {
                return about(
                    "the value contains the character NUL, which the database does not accept; remove it"
                        .into(),
                );
            }
            if value.is_empty() {
                return about(
                    "the service does not accept an empty value; use `Statement::bind`, which writes '' into the SQL"
                        .into(),
                );
            }
            if self.parameters[..index].iter().any(|earlier| earlier.name == *name) {
                return about(
                    "the parameter is given twice; give it once for all placeholders that use it".into(),
                );
            }
        }
        let given = self.parameters.iter().map(|parameter| &parameter.name).chain(&self.unplaced);
        for name in given {
            // The SQL may contain the name in a place where only the service recognises a placeholder. The
            // service then decides.
            let mentioned = || self.sqls().iter().any(|sql| sql.contains(&format!(":{name}")));
            if !used.contains(&name.as_str()) && (self.unplaced.contains(name) || !mentioned()) {
                let whole =
                    if self.sqls().len() > 1 { "no statement of the batch" } else { "the SQL does not" };
                let verb = if self.sqls().len() > 1 { "uses" } else { "use" };
                return Err(invalid(format!(
                    "{whole} {verb} `:{name}`; remove the parameter, or rename the placeholder{}",
                    listed(&used)
                ))
                .with_context("parameter", name.escape_debug()));
            }
        }
        let has = |name: &&str| self.parameters.iter().any(|parameter| parameter.name == **name);
        // The service does not look for placeholders in a statement without parameters.
        match used.iter().find(|name| !self.parameters.is_empty() && !has(name)) {
            Some(missing) => Err(invalid(format!(
                "the SQL has `:{missing}`, but there is no parameter of this name; add it with `Statement::bind`"
            ))
            .with_context("parameter", missing)),
            None => Ok(()),
        }
    }

    pub(crate) fn check_commits(&self) -> Result<()> {
        if self.execution_mode() != Some(ExecutionMode::Transaction) {
            return Ok(());
        }
        let outside =
            (1..).zip(self.sqls()).find_map(|(number, sql)| Some((number, outside_transaction(sql)?)));
        const OUT: &str = "use `ExecutionMode::AutoCommit` if each statement may commit on its own, or run it as a separate statement";
        let found = (1..).zip(self.sqls()).find_map(|(number, sql)| Some((number, commits(sql)?)));
        if let Some((number, command)) = outside {
            return Err(invalid(format!(
                "`{command}` cannot run inside the transaction of the batch; {OUT}"
            ))
            .with_context("statement_number", number));
        }
        match (self.commits, found) {
            (Commits::Yes, _) => Err(invalid(format!(
                "a statement that commits by itself cannot be part of a transaction; {OUT}"
            ))),
            (Commits::Detected, Some((number, word))) => Err(invalid(format!(
                "`{word}` commits or ends the transaction of the batch; {OUT}, or declare `with_commits(Commits::No)`"
            ))
            .with_context("statement_number", number)),
            _ => Ok(()),
        }
    }

    /// Divides a long batch into batches of at most 40 statements, in order. Any other statement is returned
    /// unchanged.
    ///
    /// A batch in [`ExecutionMode::AutoCommit`] can be divided, because its statements commit one by one. A
    /// batch that is one transaction cannot be divided: it would become several transactions. A batch whose
    /// statements leave state in the session, such as a temporary table, can be divided only if it runs [in a
    /// session](Self::in_session): otherwise each part would run in a new session. Each part has the
    /// parameters that its statements use.
    ///
    /// # Errors
    /// Returns [`ErrorKind::Invalid`] for the reasons listed at [`check`](Self::check), and for a batch that
    /// is too long and cannot be divided.
    pub fn parts(&self) -> Result<Vec<Self>> {
        let Body::Batch(sqls, mode) = &self.body else { return self.check().map(|()| vec![self.clone()]) };
        if sqls.len() <= MAX_BATCH {
            return self.check().map(|()| vec![self.clone()]);
        }
        self.check_divisible()?;
        self.check_parameters()?;
        let part = |sqls: &[String]| {
            let used: Vec<_> = sqls.iter().flat_map(|sql| sql::placeholders(sql)).collect();
            let mut part = self.clone();
            part.parameters.retain(|parameter| used.contains(&parameter.name.as_str()));
            part.body = Body::Batch(sqls.to_vec(), *mode);
            part
        };
        Ok(sqls.chunks(MAX_BATCH).map(part).collect())
    }

    /// Rejects a batch that is longer than the service's maximum and cannot be divided.
    pub(crate) fn check_divisible(&self) -> Result<()> {
        let Body::Batch(sqls, mode) = &self.body else { return Ok(()) };
        if sqls.len() <= MAX_BATCH {
            return Ok(());
        }
        if *mode != ExecutionMode::AutoCommit {
            return Err(indivisible(sqls.len()));
        }
        let found = (1..).zip(sqls).find_map(|(number, sql)| Some((number, stays_in_session(sql)?)));
        match found.filter(|_| self.session.is_none()) {
            None => Ok(()),
            Some((number, what)) => Err(invalid(format!(
                "a batch has at most {MAX_BATCH} statements, and this one has {}; it cannot be divided, because each part would run in a \
                 new session, in which {what} of an earlier part does not exist: use a permanent table, write shorter batches, or put the statements into a procedure",
                sqls.len()
            ))
            .with_context("statement_number", number)),
        }
    }
}

/// Returns the kind of state that an SQL text leaves in its session for later statements.
fn stays_in_session(sql: &str) -> Option<&'static str> {
    let pieces: Vec<_> = tokens(sql).collect();
    let mut words = pieces.iter().filter(|token| !matches!(token, Token::Blank(_)));
    let mut next = || match words.next() {
        Some(Token::Word(word)) => word.to_ascii_uppercase(),
        _ => String::new(),
    };
    let (first, second) = (next(), next());
    match first.as_str() {
        "CREATE" if matches!(second.as_str(), "TEMP" | "TEMPORARY" | "LOCAL") => Some("a temporary table"),
        "SET" | "RESET" => Some("a setting"),
        "PREPARE" => Some("a prepared statement"),
        "DECLARE" => Some("a cursor"),
        // A name that begins with `#` is the name of a temporary table.
        _ => pieces
            .windows(3)
            .any(|three| match three {
                [Token::Blank(_), Token::Symbol("#"), Token::Word(name)] => {
                    !name.starts_with(|first: char| first.is_ascii_digit())
                }
                _ => false,
            })
            .then_some("a temporary table"),
    }
}

/// Returns the first word of an SQL text if that word commits or ends a transaction. `TRUNCATE` commits the
/// transaction in which it runs.
fn commits(sql: &str) -> Option<&str> {
    const WORDS: [&str; 7] = ["TRUNCATE", "COMMIT", "END", "ROLLBACK", "ABORT", "BEGIN", "START"];
    let first = tokens(sql).find(|token| !matches!(token, Token::Blank(_)))?;
    match first {
        Token::Word(word) if WORDS.iter().any(|known| word.eq_ignore_ascii_case(known)) => Some(word),
        _ => None,
    }
}

fn listed(used: &[&str]) -> String {
    match used {
        [] => "; the SQL has no placeholder".to_owned(),
        used => format!("; the SQL has `:{}`", used.join("`, `:")),
    }
}

fn indivisible(count: usize) -> Error {
    invalid(format!(
        "a batch has at most {MAX_BATCH} statements, and this one has {count}; as it is one transaction, it cannot be divided: put the \
         statements into a procedure, or use `ExecutionMode::AutoCommit` if each may commit on its own"
    ))
}

fn invalid(text: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(statement: Statement) -> String {
        let error = statement.check().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        let text = error.to_string();
        assert!(!text.contains("classified"), "{text}");
        text
    }

    #[test]
    fn every_error_about_parameters_names_the_way_out() {
        let sql = "SELECT 'classified', :day, :cycle";
        let base = || Statement::sql(sql).with_parameter("day", "classified").with_parameter("cycle", "7");
        assert!(base().check().is_ok());
        for (statement, expected) in [
            (base().with_parameter("no-name", "1"), "letters, digits and `_`; rename it"),
            (base().with_parameter("", "1"), "letters, digits and `_`"),
            (base().with_parameter("day", "1"), "given twice"),
            (Statement::sql(sql).with_parameter("day", ""), "`Statement::bind`, which writes ''"),
            (
                base().with_parameter("night", "1"),
                "does not use `:night`; remove the parameter, or rename the placeholder; the SQL has `:day`, `:cycle`",
            ),
            (base().bind("night", ""), "does not use `:night`"),
            (
                Statement::sql(sql).with_parameter("day", "1"),
                "the SQL has `:cycle`, but there is no parameter of this name",
            ),
            (Statement::sql("SELECT 1").with_parameter("day", "1"), "the SQL has no placeholder"),
            (base().with_parameter("dusk", "classified\0"), "the value contains the character NUL"),
            (Statement::sql("SELECT 'classified\0'"), "the SQL contains the character NUL"),
        ] {
            let text = refused(statement);
            assert!(text.contains(expected), "{text}");
        }
    }

    #[test]
    fn a_parameter_of_a_batch_is_used_by_at_least_one_statement() {
        let batch = || Statement::batch(["SELECT :a", "SELECT :a, :b", "SELECT 1"]);
        assert!(batch().bind("a", 1).bind("b", 2).check().is_ok());
        assert!(
            refused(batch().bind("a", 1).bind("b", 2).bind("c", 3))
                .contains("no statement of the batch uses `:c`")
        );
    }

    #[test]
    fn ambiguous_placeholders_are_left_to_the_service() {
        assert!(Statement::sql("SELECT $$ :day $$").with_parameter("day", "1").check().is_ok());
        assert!(Statement::sql("SELECT '12:30'::time, a[1:2]").check().is_ok());
    }

    #[test]
    fn a_transaction_batch_rejects_statements_that_commit() {
        let batch = |sql: &str| Statement::batch(["SELECT 1".to_owned(), sql.to_owned()]);
        for sql in [
            "TRUNCATE stage",
            "-- all of it\ntruncate table stage",
            "/* x */ COMMIT",
            "BEGIN",
            "end",
            "Rollback",
        ] {
            let text = refused(batch(sql));
            assert!(text.contains("statement_number: 2") && text.contains("AutoCommit"), "{text}");
            assert!(batch(sql).with_execution_mode(ExecutionMode::AutoCommit).check().is_ok());
            assert!(batch(sql).with_commits(Commits::No).check().is_ok());
        }
        assert!(batch("SELECT 'COMMIT'").check().is_ok());
        assert!(batch("CALL load()").check().is_ok());
        assert!(refused(batch("CALL load()").with_commits(Commits::Yes)).contains("AutoCommit"));
        assert!(Statement::sql("CALL load()").with_commits(Commits::Yes).check().is_ok());
    }

    /// Regression: the check accepted a batch with a command that cannot run in a transaction. The batch
    /// failed in the database, after earlier steps had run.
    #[test]
    fn a_transaction_batch_rejects_statements_that_cannot_run_in_a_transaction() {
        let batch = |sql: &str| Statement::batch(["SELECT 1".to_owned(), sql.to_owned()]);
        for (sql, command) in [
            ("VACUUM sales", "`VACUUM`"),
            ("ALTER TABLE sales APPEND FROM stage_sales", "`ALTER TABLE APPEND`"),
            ("CREATE DATABASE other", "`CREATE DATABASE`"),
        ] {
            let text = refused(batch(sql));
            assert!(text.contains(command) && text.contains("AutoCommit"), "{text}");
            assert!(text.contains("statement_number: 2") && text.contains("a separate statement"), "{text}");
            // Declaring `with_commits(Commits::No)` does not change the result.
            assert_eq!(refused(batch(sql).with_commits(Commits::No)), text);
            assert!(batch(sql).with_execution_mode(ExecutionMode::AutoCommit).check().is_ok());
            assert!(Statement::sql(sql).check().is_ok());
        }
    }

    #[test]
    fn a_long_batch_with_session_state_is_not_divided() {
        let batch = |sql: &str| {
            Statement::batch(std::iter::once(sql).chain(["SELECT 1"; 40]))
                .with_execution_mode(ExecutionMode::AutoCommit)
        };
        for (sql, what) in [
            ("CREATE TEMP TABLE stage (n int)", "a temporary table"),
            ("create /* of today */ temporary table stage AS SELECT 1", "a temporary table"),
            ("SELECT 1 INTO #stage", "a temporary table"),
            ("CREATE TABLE #stage (n int)", "a temporary table"),
            ("SET search_path TO mystore", "a setting"),
            ("PREPARE p AS SELECT 1", "a prepared statement"),
        ] {
            let text = batch(sql).parts().unwrap_err().to_string();
            assert!(text.contains(what) && text.contains("statement_number: 1"), "{text}");
            let in_session = batch(sql).in_session(crate::SessionId::new("s"));
            assert_eq!(in_session.parts().unwrap().len(), 2);
        }
        for sql in ["UPDATE t SET n = 1", "CREATE TABLE t (n int)", "SELECT 3 # 1", "SELECT '#x'"] {
            assert_eq!(batch(sql).parts().unwrap().len(), 2, "{sql}");
        }
    }

    #[test]
    fn a_long_batch_is_divided_only_where_each_statement_commits() {
        let sqls: Vec<_> = (0..95)
            .map(|n| format!("INSERT INTO t VALUES ({n}, :{})", if n < 40 { "a" } else { "b" }))
            .collect();
        let batch = Statement::batch(sqls.clone()).bind("a", 1).bind("b", 2);
        let text = refused(batch.clone());
        assert!(text.contains("one transaction") && text.contains("procedure"), "{text}");
        assert_eq!(batch.parts().unwrap_err().to_string(), text);
        let batch = batch.with_execution_mode(ExecutionMode::AutoCommit);
        assert!(refused(batch.clone()).contains("run_batch"));
        let parts = batch.parts().unwrap();
        assert_eq!(parts.iter().map(|part| part.sqls().len()).collect::<Vec<_>>(), [40, 40, 15]);
        assert_eq!(
            parts.iter().flat_map(Statement::sqls).collect::<Vec<_>>(),
            sqls.iter().collect::<Vec<_>>()
        );
        let names = |part: &Statement| part.parameters().iter().map(|p| p.name.clone()).collect::<Vec<_>>();
        assert_eq!(parts.iter().map(names).collect::<Vec<_>>(), [["a"], ["b"], ["b"]]);
        assert!(parts.iter().all(|part| part.check().is_ok()));
        assert_eq!(Statement::sql("SELECT 1").parts().unwrap().len(), 1);
    }
}
