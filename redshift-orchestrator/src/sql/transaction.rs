//! Commands that Redshift rejects inside a transaction.

use super::{Token, tokens};

/// Returns the command of an SQL text if Redshift rejects it inside a transaction.
///
/// | command | source, in the Redshift Database Developer Guide |
/// |---|---|
/// | `VACUUM` | `r_VACUUM_command` |
/// | `CREATE DATABASE`, `DROP DATABASE` | `r_CREATE_DATABASE`, `r_DROP_DATABASE` |
/// | `ALTER DATABASE … ISOLATION LEVEL` | `r_ALTER_DATABASE` |
/// | `CREATE LIBRARY`, `DROP LIBRARY` | `r_CREATE_LIBRARY`, `r_DROP_LIBRARY` |
/// | `CREATE EXTERNAL TABLE` | `r_CREATE_EXTERNAL_TABLE` |
/// | `ALTER TABLE … APPEND` | `r_ALTER_TABLE_APPEND` |
/// | `ALTER TABLE … ALTER COLUMN … TYPE` | `r_ALTER_TABLE` |
/// | `ALTER TABLE` with partitions, location, file format or properties (external tables only) | `r_ALTER_TABLE` |
/// | `GRANT … ON EXTERNAL …` | `r_GRANT` |
/// | `CREATE TABLESPACE`, `DROP TABLESPACE`, `REINDEX DATABASE`, `CLUSTER`, `REBUILDCAT`, `INDEXCAT` | `r_SVL_MULTI_STATEMENT_VIOLATIONS` |
///
/// Redshift also rejects `DROP TABLE`, `INSERT`, `GRANT` and the other forms of `ALTER TABLE` for external
/// tables or schemas. They are not recognised here, because their SQL does not show that the table or schema
/// is external. `COPY` is listed on `r_SVL_MULTI_STATEMENT_VIOLATIONS`, but not recognised, because another
/// page shows it in a transaction (`copy-usage_notes-multiple-files`). No page has such a rule for `CREATE
/// EXTERNAL SCHEMA`.
pub fn outside_transaction(sql: &str) -> Option<&'static str> {
    let words: Vec<String> = tokens(sql)
        .filter(|token| !matches!(token, Token::Blank(_) | Token::Semicolon))
        .map(|token| match token {
            Token::Word(word) => word.to_ascii_uppercase(),
            Token::Symbol(symbol) => symbol.to_owned(),
            // A quoted name is not a keyword.
            _ => String::new(),
        })
        .collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["VACUUM", ..] => Some("VACUUM"),
        ["CLUSTER", ..] => Some("CLUSTER"),
        ["REBUILDCAT", ..] => Some("REBUILDCAT"),
        ["INDEXCAT", ..] => Some("INDEXCAT"),
        ["REINDEX", "DATABASE", ..] => Some("REINDEX DATABASE"),
        ["CREATE", "DATABASE", ..] => Some("CREATE DATABASE"),
        ["DROP", "DATABASE", ..] => Some("DROP DATABASE"),
        ["ALTER", "DATABASE", ref rest @ ..]
            if rest.windows(2).any(|pair| pair == ["ISOLATION", "LEVEL"]) =>
        {
            Some("ALTER DATABASE ISOLATION LEVEL")
        }
        ["CREATE", "TABLESPACE", ..] => Some("CREATE TABLESPACE"),
        ["DROP", "TABLESPACE", ..] => Some("DROP TABLESPACE"),
        ["CREATE", "LIBRARY", ..] | ["CREATE", "OR", "REPLACE", "LIBRARY", ..] => Some("CREATE LIBRARY"),
        ["DROP", "LIBRARY", ..] => Some("DROP LIBRARY"),
        ["CREATE", "EXTERNAL", "TABLE", ..] => Some("CREATE EXTERNAL TABLE"),
        ["ALTER", "TABLE", ref rest @ ..] => alter_table(rest),
        ["GRANT", ref rest @ ..] if rest.windows(2).any(|pair| pair == ["ON", "EXTERNAL"]) => {
            Some("GRANT ON EXTERNAL")
        }
        _ => None,
    }
}

/// Returns the command for the words after `ALTER TABLE`.
fn alter_table(words: &[&str]) -> Option<&'static str> {
    const EXTERNAL: Option<&str> = Some("ALTER TABLE of an external table");
    let mut rest = match words {
        ["IF", "EXISTS", rest @ ..] => rest,
        rest => rest,
    };
    // Skip the name of the table, which may be qualified.
    rest = rest.get(1..)?;
    while let [".", _, more @ ..] = rest {
        rest = more;
    }
    match rest {
        ["APPEND", ..] => Some("ALTER TABLE APPEND"),
        ["ALTER", "COLUMN", _, "TYPE", ..] | ["ALTER", _, "TYPE", ..] => {
            Some("ALTER TABLE ALTER COLUMN TYPE")
        }
        ["ADD", "PARTITION", "(", ..] | ["ADD", "IF", "NOT", "EXISTS", "PARTITION", "(", ..] => EXTERNAL,
        ["DROP", "PARTITION", "(", ..] | ["PARTITION", "(", ..] => EXTERNAL,
        ["SET", "LOCATION", ..] | ["SET", "FILE", "FORMAT", ..] | ["SET", "TABLE", "PROPERTIES", ..] => {
            EXTERNAL
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_every_command_of_the_table() {
        for (sql, expected) in [
            ("VACUUM", "VACUUM"),
            ("-- nightly\nvacuum /* all */ delete only sales to 75 percent;", "VACUUM"),
            ("CREATE DATABASE other", "CREATE DATABASE"),
            ("create database shared from datashare s of namespace 'n'", "CREATE DATABASE"),
            ("DROP DATABASE other", "DROP DATABASE"),
            ("ALTER DATABASE dev ISOLATION LEVEL SNAPSHOT", "ALTER DATABASE ISOLATION LEVEL"),
            ("CREATE LIBRARY f_urlparse LANGUAGE plpythonu FROM 's3://bucket/x.zip'", "CREATE LIBRARY"),
            ("CREATE OR REPLACE LIBRARY f LANGUAGE plpythonu FROM 's3://b/x.zip'", "CREATE LIBRARY"),
            ("DROP LIBRARY f_urlparse", "DROP LIBRARY"),
            (
                "CREATE EXTERNAL TABLE spectrum.sales (a INT) STORED AS PARQUET LOCATION 's3://b/'",
                "CREATE EXTERNAL TABLE",
            ),
            ("ALTER TABLE sales APPEND FROM stage_sales", "ALTER TABLE APPEND"),
            ("alter table \"public\".\"sales\" append from stage ignoreextra", "ALTER TABLE APPEND"),
            ("ALTER TABLE event ALTER COLUMN eventname TYPE varchar(300)", "ALTER TABLE ALTER COLUMN TYPE"),
            (
                "ALTER TABLE dev.public.event ALTER COLUMN \"type\" TYPE varchar(300)",
                "ALTER TABLE ALTER COLUMN TYPE",
            ),
            (
                "alter table s.sales add if not exists partition(d='2008-01-01') location 's3://b/'",
                "ALTER TABLE of an external table",
            ),
            ("alter table s.sales drop partition(d='2008-01-01')", "ALTER TABLE of an external table"),
            (
                "alter table s.sales partition(d='2008-01-01') set location 's3://b/'",
                "ALTER TABLE of an external table",
            ),
            ("alter table s.sales set location 's3://b/'", "ALTER TABLE of an external table"),
            ("alter table s.sales set file format parquet", "ALTER TABLE of an external table"),
            (
                "alter table s.sales set table properties ('numRows'='100000')",
                "ALTER TABLE of an external table",
            ),
            ("GRANT SELECT ON EXTERNAL TABLE s.sales TO IAM_ROLE 'arn'", "GRANT ON EXTERNAL"),
            ("REINDEX DATABASE dev", "REINDEX DATABASE"),
            ("CREATE TABLESPACE t LOCATION '/x'", "CREATE TABLESPACE"),
            ("DROP TABLESPACE t", "DROP TABLESPACE"),
            ("CLUSTER sales", "CLUSTER"),
        ] {
            assert_eq!(outside_transaction(sql), Some(expected), "{sql}");
        }
    }

    #[test]
    fn leaves_other_commands_to_the_database() {
        for sql in [
            "",
            "SELECT 'VACUUM sales'",
            "\"VACUUM\"",
            "ANALYZE sales",
            "COPY sales FROM 's3://b/' IAM_ROLE 'arn'",
            "CREATE TABLE database (vacuum int)",
            "CREATE EXTERNAL SCHEMA s FROM DATA CATALOG DATABASE 'd' IAM_ROLE 'arn' CREATE EXTERNAL DATABASE IF NOT EXISTS",
            "CREATE EXTERNAL FUNCTION f(int) RETURNS int STABLE LAMBDA 'f' IAM_ROLE 'arn'",
            "ALTER DATABASE dev OWNER TO alice",
            "ALTER TABLE append ADD COLUMN partition int",
            "ALTER TABLE sales DROP COLUMN partition",
            "ALTER TABLE sales ADD COLUMN type varchar(10)",
            "ALTER TABLE sales ALTER COLUMN c ENCODE zstd",
            "ALTER TABLE sales ALTER SORTKEY (type)",
            "ALTER TABLE sales RENAME TO append",
            "GRANT SELECT ON sales TO alice",
            "GRANT USAGE ON SCHEMA external TO alice",
            "REINDEX TABLE sales",
            "REFRESH MATERIALIZED VIEW v",
            "DROP TABLE sales",
        ] {
            assert_eq!(outside_transaction(sql), None, "{sql}");
        }
    }
}
