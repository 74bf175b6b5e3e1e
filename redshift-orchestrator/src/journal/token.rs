//! The client token and the name of a statement, both derived from what is to be done.

use sha2::{Digest, Sha256};

use crate::{ClientToken, Compute, ExecutionMode, Result, Statement, StepKey};

/// The client token of an attempt at a step: SHA-256 of the key, the SQL texts, how they commit, the parameters, and the
/// database if the statement names one. As whom it runs is left out: the same work by another user is not other work.
///
/// The service says nothing about a token that comes again with another SQL, so the SQL is part of it.
pub(crate) fn client_token(key: &StepKey, statement: &Statement) -> Result<ClientToken> {
    let mut digest = Digester::new("redshift-orchestrator token 1");
    digest.text(&key.run).text(&key.step).text(&key.attempt.to_string());
    if let Some(part) = key.part {
        // Two parts may well hold the same statements.
        digest.text("part").text(&part.number.to_string()).text(&part.of.to_string());
    }
    digest.text(match statement.execution_mode() {
        None => "single",
        Some(ExecutionMode::Transaction) => "transaction",
        Some(ExecutionMode::AutoCommit) => "auto-commit",
    });
    digest.list(statement.sqls().iter().map(String::as_str));
    digest.list(statement.parameters().iter().flat_map(|p| [p.name.as_str(), p.value.as_str()]));
    if let Some(target) = statement.target() {
        let (kind, compute) = match target.compute() {
            Compute::Cluster(identifier) => ("cluster", identifier),
            Compute::Workgroup(name) => ("workgroup", name),
        };
        digest.text(kind).text(compute).text(target.database());
    }
    // 32 bytes in hexadecimal are exactly the 64 characters that the service allows.
    ClientToken::new(digest.finish())
}

/// The statement's name of an attempt at a step. It is unique to the token, so that a listing cannot confuse two definitions.
pub(crate) fn statement_name(key: &StepKey, token: &ClientToken) -> String {
    format!("{key} {}", &token.as_str().get(..16).unwrap_or(token.as_str()))
}

/// Feeds texts with their lengths, so that no two lists of texts give the same bytes.
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

    fn list<'a>(&mut self, texts: impl Iterator<Item = &'a str>) -> &mut Self {
        let texts: Vec<_> = texts.collect();
        self.0.update((texts.len() as u64).to_be_bytes());
        for text in texts {
            self.text(text);
        }
        self
    }

    fn finish(self) -> String {
        self.0.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Part, Target};

    fn token(key: &StepKey, statement: &Statement) -> String {
        client_token(key, statement).unwrap().to_string()
    }

    #[test]
    fn the_token_never_changes_between_versions() {
        // A changed token would run every statement in flight a second time after an upgrade.
        let key = StepKey::new("cycle-007", "load-sales");
        let statement = Statement::sql("CALL load_sales(:cycle)").with_parameter("cycle", "7");
        let token = token(&key, &statement);
        assert_eq!(token, "8bb6522cb76680d962e34311a6ca7de46937876fe758a1eca47be63eb538d134");
        assert_eq!(token.len(), 64);
    }

    #[test]
    fn everything_that_makes_it_another_statement_makes_another_token() {
        let key = StepKey::new("r", "s");
        let base = Statement::sql("SELECT :a").with_parameter("a", "1");
        let tokens = [
            token(&key, &base),
            token(&key.clone().with_attempt(2), &base),
            token(&StepKey::new("r", "t"), &base),
            token(&key.with_part(Part { number: 1, of: 2 }), &base),
            token(&key.with_part(Part { number: 2, of: 2 }), &base),
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
    }

    #[test]
    fn the_name_says_whose_statement_it_is() {
        let key = StepKey::new("cycle-007", "load-sales").with_attempt(2);
        let token = ClientToken::new("0123456789abcdef0123").unwrap();
        assert_eq!(statement_name(&key, &token), "cycle-007/load-sales/2 0123456789abcdef");
    }
}
