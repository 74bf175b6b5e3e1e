//! The identity of a submit: its client token, and the name of a statement that completes a task.

use redshift_orchestrator::{ClientToken, Statement, StepKey, Target};

use crate::{Error, contract::statement::Identity};

/// Prefix of the name of a statement that completes a task. The rule that sends the events of these
/// statements to the handler `callback` filters by this `prefix`.
pub const TASK_PREFIX: &str = "sfn-task ";

/// Maximum length of a statement's name in characters (`StatementName`).
const LONGEST_NAME: usize = 2048;

impl Identity {
    /// Returns the client token of a statement: a digest of the execution, redrive, step, attempt, target,
    /// SQL and parameters.
    ///
    /// A retried invocation computes the same token. For 8 hours the service returns the first statement for
    /// it. Another execution, redrive or attempt has a different token.
    ///
    /// # Errors
    /// Returns [`Error::Service`] if the service would not accept the token.
    pub fn client_token(&self, target: Option<&Target>, statement: &Statement) -> Result<ClientToken, Error> {
        let run = format!("{} redrive {}", self.execution, self.redrive);
        let key = StepKey::new(run, &self.step).with_attempt(self.attempt);
        Ok(key.client_token(target, statement)?)
    }

    /// Returns the default name of a statement: `7f3a/0/sales/1` for the execution
    /// `arn:aws:states:eu-west-1:111122223333:execution:load:7f3a`.
    pub fn statement_name(&self) -> String {
        let execution = self.execution.rsplit(':').next().unwrap_or(&self.execution);
        format!("{execution}/{}/{}/{}", self.redrive, self.step, self.attempt)
    }
}

/// Returns the name of a statement that completes a task: `sfn-task LABEL TOKEN`.
///
/// The task token is a part of the statement's name, because the event of the statement's end contains the
/// name. No other storage is needed. The label is truncated if both do not fit.
///
/// # Errors
/// Returns [`Error::BadInput`] if the token is empty, contains white space, or does not fit.
pub fn task_name(label: &str, token: &str) -> Result<String, Error> {
    let left = LONGEST_NAME.checked_sub(TASK_PREFIX.len() + 1 + token.chars().count());
    match left {
        Some(left) if !token.is_empty() && !token.contains(char::is_whitespace) => {
            let label: String = label.chars().take(left).collect();
            Ok(format!("{TASK_PREFIX}{label} {token}"))
        }
        _ => Err(Error::BadInput(
            "`task_token` is not a task token of Step Functions; send `$$.Task.Token` of a state with `.waitForTaskToken`"
                .to_owned(),
        )),
    }
}

/// Returns the task token in a statement's name, or `None` if the statement completes no task.
pub fn task_token(name: &str) -> Option<&str> {
    let (_, token) = name.strip_prefix(TASK_PREFIX)?.rsplit_once(' ')?;
    (!token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn identity() -> Identity {
        Identity {
            execution: "arn:aws:states:eu-west-1:111122223333:execution:load:7f3a".to_owned(),
            redrive: 0,
            step: "sales".to_owned(),
            attempt: 1,
        }
    }

    #[test]
    fn everything_that_makes_it_another_statement_makes_another_token() {
        let (target, sql) = (Target::cluster("dwh", "mystore"), Statement::sql("CALL load(:day)"));
        let token = |identity: &Identity| identity.client_token(Some(&target), &sql).unwrap().to_string();
        let (first, same) = (token(&identity()), token(&identity()));
        assert_eq!(first, same);
        assert_eq!(first.len(), 64);
        let another = |change: fn(&mut Identity)| {
            let mut identity = identity();
            change(&mut identity);
            token(&identity)
        };
        let on = |target: &Target, statement: &Statement| {
            identity().client_token(Some(target), statement).unwrap().to_string()
        };
        let tokens = [
            first,
            another(|identity| identity.execution.push('b')),
            another(|identity| identity.redrive = 1),
            another(|identity| identity.step = "items".to_owned()),
            another(|identity| identity.attempt = 2),
            on(&target, &sql.clone().with_parameter("day", "7")),
            on(&target, &Statement::sql("CALL load(:day) ")),
            on(&Target::cluster("dwh", "other"), &sql),
            on(&Target::workgroup("dwh", "mystore"), &sql),
        ];
        assert_eq!(tokens.iter().collect::<BTreeSet<_>>().len(), tokens.len());
        // A different name or result format does not make it a different statement.
        assert_eq!(on(&target, &sql.clone().with_name("x")), tokens[0]);
    }

    #[test]
    fn a_task_token_survives_in_the_name() {
        let name = task_name(&identity().statement_name(), "AQCEAAAAKgAAAAMAAAA+/=").unwrap();
        assert_eq!(name, "sfn-task 7f3a/0/sales/1 AQCEAAAAKgAAAAMAAAA+/=");
        assert_eq!(task_token(&name), Some("AQCEAAAAKgAAAAMAAAA+/="));
        for foreign in ["", "load-sales", "sfn-task", "sfn-task ", "sfn-task x ", "x sfn-task a b"] {
            assert_eq!(task_token(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn a_name_has_at_most_2048_characters() {
        let token = "t".repeat(1_024);
        let name = task_name(&"ü".repeat(3_000), &token).unwrap();
        assert_eq!((name.chars().count(), task_token(&name)), (2_048, Some(token.as_str())));
        assert!(task_name("", &"t".repeat(2_038)).is_ok());
        for token in ["", "a b", &"t".repeat(2_039)] {
            assert!(matches!(task_name("sales", token), Err(Error::BadInput(_))));
        }
    }
}
