//! The only SQL statement of the drop-in, built from two names.

use std::fmt;

use crate::Error;

/// `CALL schema.procedure();`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call(String);

impl Call {
    /// Creates the call of `procedure` in `schema`.
    ///
    /// A plain or already quoted name is used unchanged. Any other name is quoted, if it can be a single
    /// identifier.
    ///
    /// # Errors
    /// Returns [`Error::Config`], which names the variable, if a name cannot be a single identifier: it is
    /// empty, contains a dot, a parenthesis, a quote or a semicolon, or is longer than 127 bytes.
    pub fn new(schema: &str, procedure: &str) -> Result<Self, Error> {
        let (schema, procedure) = (identifier("SCHEMA", schema)?, identifier("PROCEDURE", procedure)?);
        Ok(Self(format!("CALL {schema}.{procedure}();")))
    }

    /// Returns the SQL text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The maximum length of an identifier in Redshift.
const LONGEST: usize = 127;

fn identifier(variable: &str, name: &str) -> Result<String, Error> {
    let quoted = name.len() > 2 && name.starts_with('"') && name.ends_with('"');
    let inner = if quoted { name[1..name.len() - 1].replace("\"\"", "") } else { name.to_owned() };
    let refused = |c: char| c.is_control() || c == '"' || (!quoted && ".();'\\,/*".contains(c));
    if inner.trim().is_empty()
        || name.len() > LONGEST + 2
        || inner.len() > LONGEST
        || inner.chars().any(refused)
    {
        return Err(Error::Config(format!(
            "{variable} must be the name of one identifier of at most {LONGEST} bytes, without a schema or arguments"
        )));
    }
    let mut chars = name.chars();
    let plain = chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '$');
    Ok(if plain || quoted { name.to_owned() } else { format!("\"{name}\"") })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("mystore", "sp_run_incremental_load", "CALL mystore.sp_run_incremental_load();")]
    #[case("MyStore", "_load$1", "CALL MyStore._load$1();")]
    #[case("my-store", "2load", r#"CALL "my-store"."2load"();"#)]
    #[case("\"My.Store\"", "\"a\"\"b\"", r#"CALL "My.Store"."a""b"();"#)]
    #[case("größe", "load", r#"CALL "größe".load();"#)]
    fn names_become_identifiers(#[case] schema: &str, #[case] procedure: &str, #[case] sql: &str) {
        assert_eq!(Call::new(schema, procedure).unwrap().as_str(), sql);
    }

    #[rstest]
    #[case("")]
    #[case(" ")]
    #[case("etl.load")]
    #[case("load(1)")]
    #[case("load(); DROP TABLE sale; --")]
    #[case("load;")]
    #[case("\"load")]
    #[case("\"load\"; DROP TABLE sale; --\"")]
    #[case("\"\"")]
    #[case("\"\"\"")]
    #[case("lo\nad")]
    fn what_is_no_identifier_is_refused_by_name(#[case] name: &str) {
        for (schema, procedure, variable) in [(name, "load", "SCHEMA"), ("mystore", name, "PROCEDURE")] {
            let Err(Error::Config(message)) = Call::new(schema, procedure) else {
                panic!("{name:?} was accepted")
            };
            assert!(message.starts_with(variable), "{message}");
        }
    }

    #[test]
    fn an_identifier_has_at_most_127_bytes() {
        assert!(Call::new(&"a".repeat(127), "load").is_ok());
        assert!(Call::new(&"a".repeat(128), "load").is_err());
        assert!(Call::new(&format!("\"{}\"", "a".repeat(127)), "load").is_ok());
    }
}
