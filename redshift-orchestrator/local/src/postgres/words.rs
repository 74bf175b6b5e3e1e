//! Classifies SQL by its first words.

use redshift_orchestrator::sql::{Token, tokens};

/// Returns the first word of the SQL if it begins or ends a transaction or savepoint.
pub(super) fn transaction_control(sql: &str) -> Option<String> {
    let mut words = words(sql);
    let first = words.next()?;
    let control = ["BEGIN", "START", "COMMIT", "END", "ROLLBACK", "ABORT", "SAVEPOINT", "RELEASE"];
    let prepares = first == "PREPARE" && words.next().is_some_and(|second| second == "TRANSACTION");
    (control.contains(&first.as_str()) || prepares).then_some(first)
}

/// Returns `true` if the SQL is a `COMMIT` or `END` that does not begin another transaction.
pub(super) fn commits(sql: &str) -> bool {
    let mut words = words(sql);
    let ends = words.next().is_some_and(|first| first == "COMMIT" || first == "END");
    ends && words.all(|word| word == "WORK" || word == "TRANSACTION")
}

/// Returns `true` for `COPY … FROM STDIN` and `COPY … TO STDOUT`.
pub(super) fn copies_through_the_connection(sql: &str) -> bool {
    let mut words = words(sql);
    words.next().is_some_and(|first| first == "COPY") && words.any(|word| word == "STDIN" || word == "STDOUT")
}

/// Returns the words of the SQL in upper case. If the first token is not a word, the first item is empty.
fn words(sql: &str) -> impl Iterator<Item = String> {
    let mut begun = false;
    tokens(sql).filter_map(move |token| match token {
        Token::Blank(_) | Token::Semicolon => None,
        Token::Word(word) => {
            begun = true;
            Some(word.to_ascii_uppercase())
        }
        _ if !begun => {
            begun = true;
            Some(String::new())
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_word_controls_a_transaction() {
        for (sql, word) in [
            (" -- !\n commit;", Some("COMMIT")),
            ("START TRANSACTION", Some("START")),
            ("PREPARE TRANSACTION 'x'", Some("PREPARE")),
            ("PREPARE x AS SELECT 1", None),
            ("(COMMIT)", None),
            ("SELECT 'COMMIT'", None),
            ("CALL commit()", None),
        ] {
            assert_eq!(transaction_control(sql).as_deref(), word, "{sql}");
        }
    }

    #[test]
    fn only_an_end_that_keeps_the_changes_commits() {
        assert!(commits("COMMIT") && commits("end transaction;") && commits("-- now\nCOMMIT WORK"));
        for sql in ["COMMIT AND CHAIN", "COMMIT PREPARED 'x'", "ROLLBACK", "SELECT 1", ""] {
            assert!(!commits(sql), "{sql}");
        }
    }

    #[test]
    fn a_copy_through_the_connection_is_recognised() {
        assert!(copies_through_the_connection("COPY t (a) FROM STDIN WITH (FORMAT csv)"));
        assert!(!copies_through_the_connection("COPY t FROM 's3://STDIN/x'"));
        assert!(!copies_through_the_connection("SELECT STDIN"));
    }
}
