//! Error texts for rejected SQL, each with a remedy. Covers features of Redshift that PostgreSQL lacks, and
//! SQL that PostgreSQL accepts but Redshift does not.

use std::ops::Range;

use super::{
    Reader,
    names::{self, AFTER_A_TABLE, is},
    windows,
};
use redshift_orchestrator::sql::Token;

/// First words of a statement, the feature, and the remedy.
#[rustfmt::skip]
const STATEMENTS: &[(&[&str], &str, &str)] = &[
    (&["UNLOAD"], "UNLOAD", "SELECT the rows and fetch the result, as CSV if it is large"),
    (&["CREATE", "EXTERNAL", "SCHEMA"], "CREATE EXTERNAL SCHEMA", "CREATE SCHEMA, and load the tables that queries read"),
    (&["ALTER", "EXTERNAL", "SCHEMA"], "ALTER EXTERNAL SCHEMA", "use an ordinary schema"),
    (&["CREATE", "EXTERNAL", "TABLE"], "CREATE EXTERNAL TABLE (Redshift Spectrum)", "CREATE TABLE with the same columns, and INSERT the rows"),
    (&["ALTER", "EXTERNAL", "TABLE"], "ALTER EXTERNAL TABLE (Redshift Spectrum)", "use an ordinary table"),
    (&["CREATE", "EXTERNAL", "VIEW"], "CREATE EXTERNAL VIEW", "CREATE VIEW over ordinary tables"),
    (&["CREATE", "EXTERNAL", "FUNCTION"], "CREATE EXTERNAL FUNCTION (a Lambda function)", "CREATE FUNCTION … LANGUAGE sql with the result that a test needs"),
    (&["CREATE", "OR", "REPLACE", "EXTERNAL", "FUNCTION"], "CREATE EXTERNAL FUNCTION (a Lambda function)", "CREATE FUNCTION … LANGUAGE sql with the result that a test needs"),
    (&["CREATE", "EXTERNAL", "MODEL"], "CREATE EXTERNAL MODEL", "CREATE FUNCTION … LANGUAGE sql with the result that a test needs"),
    (&["CREATE", "MODEL"], "CREATE MODEL (Redshift ML)", "CREATE FUNCTION … LANGUAGE sql with the result that a test needs"),
    (&["CREATE", "DATASHARE"], "a datashare", "grant on the schema itself"),
    (&["ALTER", "DATASHARE"], "a datashare", "grant on the schema itself"),
    (&["DROP", "DATASHARE"], "a datashare", "leave it out"),
    (&["CREATE", "LIBRARY"], "CREATE LIBRARY (Python)", "write the function in SQL or PL/pgSQL"),
    (&["CREATE", "OR", "REPLACE", "LIBRARY"], "CREATE LIBRARY (Python)", "write the function in SQL or PL/pgSQL"),
    (&["CREATE", "IDENTITY", "PROVIDER"], "CREATE IDENTITY PROVIDER", "use roles of the PostgreSQL server"),
    (&["CREATE", "MASKING", "POLICY"], "a masking policy", "mask the values in a view"),
    (&["ATTACH", "MASKING", "POLICY"], "a masking policy", "mask the values in a view"),
    (&["CREATE", "RLS", "POLICY"], "CREATE RLS POLICY", "run PostgreSQL's CREATE POLICY directly on the server"),
    (&["ATTACH", "RLS", "POLICY"], "ATTACH RLS POLICY", "run PostgreSQL's CREATE POLICY directly on the server"),
    (&["SHOW", "DATABASES"], "SHOW DATABASES", "call ListDatabases, or SELECT datname FROM pg_database"),
    (&["SHOW", "SCHEMAS"], "SHOW SCHEMAS", "call ListSchemas, or SELECT from information_schema.schemata"),
    (&["SHOW", "TABLES"], "SHOW TABLES", "call ListTables, or SELECT from SVV_TABLES"),
    (&["SHOW", "COLUMNS"], "SHOW COLUMNS", "call DescribeTable, or SELECT from SVV_COLUMNS"),
    (&["SHOW", "TABLE"], "SHOW TABLE", "call DescribeTable, or SELECT from PG_TABLE_DEF"),
    (&["SHOW", "VIEW"], "SHOW VIEW", "SELECT pg_get_viewdef('the view')"),
    (&["SHOW", "EXTERNAL"], "SHOW EXTERNAL TABLE", "leave it out: a local executor has no external tables"),
    (&["SHOW", "PROCEDURE"], "SHOW PROCEDURE", "SELECT pg_get_functiondef('the procedure'::regproc)"),
    (&["SHOW", "FUNCTION"], "SHOW FUNCTION", "SELECT pg_get_functiondef('the function'::regproc)"),
    (&["SHOW", "MODEL"], "SHOW MODEL (Redshift ML)", "leave it out: a local executor has no models"),
    (&["SHOW", "DATASHARES"], "a datashare", "leave it out: a local executor has no datashares"),
    (&["SHOW", "GRANTS"], "SHOW GRANTS", "SELECT from information_schema.role_table_grants"),
    (&["CANCEL"], "CANCEL", "call CancelStatement, or SELECT pg_cancel_backend(…)"),
    (&["ANALYZE", "COMPRESSION"], "ANALYZE COMPRESSION", "leave it out: there are no encodings to choose"),
    (&["ANALYSE", "COMPRESSION"], "ANALYZE COMPRESSION", "leave it out: there are no encodings to choose"),
];

/// Statements that PostgreSQL accepts but Redshift does not: their first words, name, and remedy.
#[rustfmt::skip]
const POSTGRES_STATEMENTS: &[(&[&str], &str, &str)] = &[
    (&["CREATE", "INDEX"], "CREATE INDEX", "declare a SORTKEY"),
    (&["CREATE", "UNIQUE", "INDEX"], "CREATE UNIQUE INDEX", "declare a SORTKEY, and remove duplicates when loading"),
    (&["CREATE", "SEQUENCE"], "CREATE SEQUENCE", "declare a column with IDENTITY(1, 1)"),
    (&["CREATE", "TRIGGER"], "CREATE TRIGGER", "do this in the procedure that loads the rows"),
    (&["CREATE", "CONSTRAINT", "TRIGGER"], "CREATE TRIGGER", "do this in the procedure that loads the rows"),
    (&["CREATE", "RULE"], "CREATE RULE", "do this in the procedure that loads the rows"),
    (&["CREATE", "EXTENSION"], "CREATE EXTENSION", "use built-in functions"),
    (&["CREATE", "DOMAIN"], "CREATE DOMAIN", "use a built-in type"),
    (&["CREATE", "TYPE"], "CREATE TYPE", "use a built-in type"),
    (&["CREATE", "AGGREGATE"], "CREATE AGGREGATE", "use built-in aggregates"),
    (&["CREATE", "OPERATOR"], "CREATE OPERATOR", "write a function"),
    (&["CREATE", "TABLESPACE"], "CREATE TABLESPACE", "leave it out"),
];

/// Returns the error text for a statement that only PostgreSQL accepts.
fn of_postgres_statement(reader: Reader<'_, '_>, begin: usize, end: usize) -> Option<String> {
    if let Some((_, name, way_out)) =
        POSTGRES_STATEMENTS.iter().find(|(words, ..)| reader.words(begin, end, words).is_some())
    {
        let text = format!("SQL command \"{name}\" not supported on Redshift tables.");
        return Some(as_on_redshift(&text, "0A000", way_out));
    }
    let end = reader.statement_end(begin, end);
    if let Some(next) = reader.words(begin, end, &["DELETE"]) {
        let next = reader.words(next, end, &["FROM"]).unwrap_or(next);
        let behind = reader.next(behind_name(reader, next, end)?, end)?;
        let alias = match reader.tokens[behind] {
            Token::Word(word) => !["USING", "WHERE"].iter().any(|one| word.eq_ignore_ascii_case(one)),
            token => matches!(token, Token::Quoted(_)),
        };
        return alias.then(|| {
            syntax_error(reader, behind, "DELETE does not accept an alias: repeat the name of the table")
        });
    }
    let target = reader.words(begin, end, &["MERGE", "INTO"])?;
    let behind = reader.next(behind_name(reader, target, end)?, end)?;
    if reader.words(behind, end, &["USING"]).is_none() {
        let way_out = "the target of MERGE cannot have an alias: repeat the name of the table";
        return Some(syntax_error(reader, behind, way_out));
    }
    branches(reader, behind, end)
}

/// Returns the error text for a `MERGE`, unless it has exactly one `WHEN MATCHED THEN` and one `WHEN NOT
/// MATCHED THEN`.
fn branches(reader: Reader<'_, '_>, begin: usize, end: usize) -> Option<String> {
    let way_out =
        "write exactly one WHEN MATCHED THEN UPDATE or DELETE, and one WHEN NOT MATCHED THEN INSERT";
    let (mut matched, mut unmatched) = (0, 0);
    for at in names::top_level(reader, begin..end) {
        let Some(when) =
            reader.words(at, end, &["WHEN"]).filter(|_| matches!(reader.tokens[at], Token::Word(_)))
        else {
            continue;
        };
        let (count, next) = match reader.words(when, end, &["MATCHED"]) {
            Some(next) => (&mut matched, next),
            None => match reader.words(when, end, &["NOT", "MATCHED"]) {
                Some(next) => (&mut unmatched, next),
                // The `WHEN` belongs to a `CASE`.
                None => continue,
            },
        };
        *count += 1;
        if *count > 1 {
            return Some(syntax_error(reader, at, way_out));
        }
        let action = reader.words(next, end, &["THEN"]);
        if action.is_none_or(|action| reader.words(action, end, &["DO"]).is_some()) {
            return Some(syntax_error(reader, reader.next(action.unwrap_or(next), end)?, way_out));
        }
    }
    let text = "syntax error at end of input";
    (matched != 1 || unmatched != 1).then(|| as_on_redshift(text, "42601", way_out))
}

/// Returns the position after the name of a table.
fn behind_name(reader: Reader<'_, '_>, at: usize, end: usize) -> Option<usize> {
    let mut at = reader.next(at, end)?;
    if reader.tokens[at] == Token::Symbol("#") {
        at += 1;
    }
    while at + 1 < end && reader.tokens[at + 1] == Token::Symbol(".") {
        at += 2;
    }
    Some(at + 1)
}

/// Returns the error text for a column whose type Redshift lacks. `part` is the text after the column's name.
pub(super) fn of_column(
    reader: Reader<'_, '_>,
    part: Range<usize>,
    table: &str,
    column: &str,
) -> Option<String> {
    let (word, mut behind) = reader.word(part.start, part.end)?;
    let name = word.to_ascii_lowercase();
    let unsupported = |name: &str, way_out: &str| {
        let column = format!("{}.{}", table.trim_matches('"'), column.trim_matches('"'));
        as_on_redshift(&format!("Column \"{column}\" has unsupported type \"{name}\"."), "0A000", way_out)
    };
    for next in ["VARYING", "PRECISION"] {
        behind = reader.words(behind, part.end, &[next]).unwrap_or(behind);
    }
    behind = reader.list(behind, part.end).map_or(behind, |(_, behind)| behind);
    let is_array = reader.next(behind, part.end).is_some_and(|at| match reader.tokens[at] {
        Token::Word(word) => word.eq_ignore_ascii_case("ARRAY"),
        token => token == Token::Symbol("["),
    });
    if is_array {
        let element = match name.as_str() {
            "int" | "int4" => "integer",
            "int8" => "bigint",
            "int2" => "smallint",
            "varchar" => "character varying",
            other => other,
        };
        return Some(unsupported(&format!("{element}[]"), "store the list as JSON in a VARCHAR"));
    }
    match name.as_str() {
        "serial" | "serial4" | "bigserial" | "serial8" | "smallserial" | "serial2" => {
            Some(unsupported(&name, "use BIGINT IDENTITY(1, 1)"))
        }
        "bytea" => Some(unsupported(&name, "use VARBYTE")),
        "money" => Some(unsupported(&name, "use DECIMAL(18, 2)")),
        "bit" | "inet" | "cidr" | "macaddr" | "name" | "oid" | "point" | "line" | "lseg" | "box" | "path"
        | "polygon" | "circle" => Some(unsupported(&name, "store it as a VARCHAR or a number")),
        "uuid" | "json" | "jsonb" | "xml" | "hstore" | "tsvector" | "tsquery" | "int4range" | "int8range"
        | "numrange" | "tsrange" | "tstzrange" | "daterange" => {
            Some(as_on_redshift(&format!("type \"{name}\" does not exist"), "42704", "store it as a VARCHAR"))
        }
        _ => None,
    }
}

/// Returns the error text for a `CHECK` constraint.
pub(super) fn check() -> String {
    as_on_redshift(
        "CHECK constraints are not supported",
        "0A000",
        "check the rows in the procedure that loads them",
    )
}

/// Returns the error text for the default of a parameter of a procedure or function.
pub(super) fn default_of_parameter(reader: Reader<'_, '_>, at: usize) -> String {
    syntax_error(reader, at, "pass the value in each call: parameters have no defaults")
}

fn syntax_error(reader: Reader<'_, '_>, at: usize, way_out: &str) -> String {
    let text = format!("syntax error at or near \"{}\"", reader.tokens[at].text().trim_matches('"'));
    as_on_redshift(&text, "42601", way_out)
}

/// Formats the error that Redshift returns, for SQL that PostgreSQL accepts.
pub(super) fn as_on_redshift(text: &str, sqlstate: &str, way_out: &str) -> String {
    format!("ERROR: {text} [SQLSTATE {sqlstate}]\n  Hint: {way_out}")
}

/// Returns the error text for the statement at the beginning of a range.
pub(super) fn of_statement(reader: Reader<'_, '_>, part: Range<usize>) -> Option<String> {
    let (begin, end) = (part.start, part.end);
    if let Some((_, feature, way_out)) =
        STATEMENTS.iter().find(|(words, ..)| reader.words(begin, end, words).is_some())
    {
        return Some(refused(feature, way_out));
    }
    if reader.words(begin, end, &["MERGE"]).is_none()
        || !statement(reader, begin, end)
            .any(|token| matches!(token, Token::Word(word) if word.eq_ignore_ascii_case("DUPLICATES")))
    {
        let refused = of_postgres_statement(reader, begin, end);
        if refused.is_some() {
            return refused;
        }
    }
    let rest = || statement(reader, begin, end);
    let has =
        |word: &str| rest().any(|token| matches!(token, Token::Word(one) if one.eq_ignore_ascii_case(word)));
    if reader.words(begin, end, &["COPY"]).is_some() {
        let is_store = |text: &str| {
            let text = text.trim_start_matches('\'');
            ["s3:", "dynamodb:", "emr:", "ssh:"]
                .iter()
                .any(|store| text.get(..store.len()).is_some_and(|head| head.eq_ignore_ascii_case(store)))
        };
        let stores = rest().any(|token| matches!(token, Token::Quoted(text) if is_store(text)));
        let redshifts = ["IAM_ROLE", "CREDENTIALS", "ACCESS_KEY_ID", "MANIFEST", "JOB"].into_iter().any(has);
        if stores || redshifts {
            let way_out = "INSERT the rows, or load them with PostgreSQL's COPY over a separate connection";
            return Some(refused("COPY from S3 or another store", way_out));
        }
    }
    if reader.words(begin, end, &["MERGE"]).is_some() && has("DUPLICATES") {
        return Some(refused(
            "MERGE … REMOVE DUPLICATES",
            "write the WHEN MATCHED and WHEN NOT MATCHED branches",
        ));
    }
    if reader.words(begin, end, &["ALTER", "TABLE"]).is_some() && has("APPEND") {
        return Some(refused(
            "ALTER TABLE APPEND",
            "INSERT INTO the target SELECT from the source, then TRUNCATE the source",
        ));
    }
    let creates = reader.words(begin, end, &["CREATE"]).is_some();
    if creates && ["plpythonu", "plpython3u"].into_iter().any(has) {
        return Some(refused("LANGUAGE plpythonu", "write the function in SQL or PL/pgSQL"));
    }
    if creates && has("DATABASE") && (has("DATASHARE") || has("INTEGRATION")) {
        return Some(refused(
            "a database of a datashare or an integration",
            "CREATE SCHEMA, and load the tables that queries read",
        ));
    }
    None
}

/// Returns the error text for a word within a statement.
pub(super) fn of_word(
    reader: Reader<'_, '_>,
    part: Range<usize>,
    before: Option<Token<'_>>,
) -> Option<String> {
    let (at, end) = (part.start, part.end);
    let Token::Word(word) = reader.tokens[at] else { return None };
    let calls = || reader.list(at + 1, end).is_some();
    let refused_by_redshift = match word.to_ascii_uppercase().as_str() {
        "ON" if reader.words(at + 1, end, &["CONFLICT"]).is_some() => {
            Some(syntax_error(reader, at, "use MERGE, or DELETE and then INSERT"))
        }
        "RETURNING" if !matches!(before, Some(Token::Word(word)) if word.eq_ignore_ascii_case("AS")) => {
            Some(syntax_error(reader, at, "SELECT the rows in a separate statement"))
        }
        "DISTINCT"
            if reader.words(at + 1, end, &["ON"]).is_some_and(|next| reader.list(next, end).is_some()) =>
        {
            let text = "SELECT DISTINCT ON is not supported";
            Some(as_on_redshift(
                text,
                "0A000",
                "use QUALIFY ROW_NUMBER() OVER (PARTITION BY … ORDER BY …) = 1",
            ))
        }
        "FILTER" if before == Some(Token::Symbol(")")) => reader
            .list(at + 1, end)
            .filter(|(list, _)| reader.words(list.start, list.end, &["WHERE"]).is_some())
            .map(|(list, _)| syntax_error(reader, list.start - 1, "aggregate a CASE WHEN … THEN … END")),
        _ if windows::lacks_frame(reader, at, end) => Some(as_on_redshift(
            "Aggregate window functions with an ORDER BY clause require a frame clause",
            "42601",
            "add ROWS UNBOUNDED PRECEDING for a running value, or ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING",
        )),
        _ => None,
    };
    if refused_by_redshift.is_some() {
        return refused_by_redshift;
    }
    let name = word.to_ascii_uppercase();
    let (feature, way_out) = match name.as_str() {
        "JSON_PARSE"
        | "JSON_SERIALIZE"
        | "JSON_SERIALIZE_TO_VARBYTE"
        | "CAN_JSON_PARSE"
        | "GET_ARRAY_LENGTH"
            if calls() =>
        {
            return Some(refused(&format!("the function {name} of the type SUPER"), SUPER));
        }
        "ARRAY"
            if reader
                .list(at + 1, end)
                .is_some_and(|(list, _)| reader.words(list.start, list.end, &["SELECT"]).is_none()) =>
        {
            ("the function ARRAY of the type SUPER", SUPER)
        }
        "CONNECT" if reader.words(at + 1, end, &["BY"]).is_some() => ("CONNECT BY", "write WITH RECURSIVE"),
        "ALL"
            if before.is_some_and(|before| is(before, &["BY"]))
                && !begins_a_condition(reader, at + 1, end) =>
        {
            ("GROUP BY ALL", "list the columns to group by")
        }
        "PERCENTILE_DISC"
            if reader
                .list(at + 1, end)
                .is_some_and(|(_, behind)| windows::is_windowed(reader, behind, end)) =>
        {
            ("PERCENTILE_DISC with OVER", "aggregate in a subquery, and join it")
        }
        "IGNORE" if reader.words(at + 1, end, &["NULLS"]).is_some() => (
            "IGNORE NULLS of LAG, LEAD or NTH_VALUE",
            "count the non-NULL values up to each row, and take the first row of each count",
        ),
        "EXCLUDE" if before == Some(Token::Symbol("*")) => ("SELECT * EXCLUDE", "list the columns to select"),
        "PIVOT" | "UNPIVOT" if calls() && follows_a_table(before) => {
            return Some(refused(&name, "write a CASE for each column, with GROUP BY"));
        }
        // A QUALIFY that could not be translated.
        "QUALIFY" if is_qualify(reader, part, before) => (
            "QUALIFY with SELECT * over a join with USING, with DISTINCT and another order, or with INTO first",
            "list the columns, or move the window function to a subquery and its condition to WHERE",
        ),
        _ => return None,
    };
    Some(refused(feature, way_out))
}

/// Returns `true` if the token can end a table reference. A column named `qualify` is preceded by a comma or
/// by a word such as `SELECT`.
fn follows_a_table(before: Option<Token<'_>>) -> bool {
    match before {
        Some(Token::Word(word)) => {
            !["SELECT", "AS", "BY", "ON", "WHERE", "AND", "OR", "INTO", "TABLE", "FUNCTION"]
                .iter()
                .any(|one| word.eq_ignore_ascii_case(one))
        }
        Some(Token::Symbol(")")) | Some(Token::Quoted(_)) => true,
        _ => false,
    }
}

/// Returns `true` if a `QUALIFY` clause begins here.
pub(super) fn is_qualify(reader: Reader<'_, '_>, part: Range<usize>, before: Option<Token<'_>>) -> bool {
    matches!(reader.tokens[part.start], Token::Word(word) if word.eq_ignore_ascii_case("QUALIFY"))
        && follows_a_table(before)
        && begins_a_condition(reader, part.start + 1, part.end)
}

/// Returns `true` if `(+)` follows a column here.
pub(super) fn is_outer_join(reader: Reader<'_, '_>, part: Range<usize>, before: Option<Token<'_>>) -> bool {
    let list = reader.list(part.start, part.end);
    matches!(before, Some(Token::Word(_) | Token::Quoted(_)))
        && list.is_some_and(|(list, _)| list.len() == 1 && reader.tokens[list.start] == Token::Symbol("+"))
}

/// Returns `true` if an expression comes next. No expression follows a table named `qualify`.
fn begins_a_condition(reader: Reader<'_, '_>, at: usize, end: usize) -> bool {
    reader.next(at, end).is_some_and(|at| match reader.tokens[at] {
        token @ Token::Word(_) => !is(token, &AFTER_A_TABLE) && !is(token, &["AS", "TABLESAMPLE"]),
        Token::Quoted(_) | Token::Placeholder(_) => true,
        token => token == Token::Symbol("("),
    })
}

const SUPER: &str = "store the document in a VARCHAR, and read it with JSON_EXTRACT_PATH_TEXT";

/// Returns the error text for a type.
pub(super) fn of_type(name: &str) -> Option<String> {
    let name = name.to_ascii_uppercase();
    let way_out = match name.as_str() {
        "SUPER" => SUPER,
        "GEOMETRY" | "GEOGRAPHY" => "store the coordinates as numbers, or the shape as text",
        "HLLSKETCH" => "use COUNT(DISTINCT …)",
        _ => return None,
    };
    Some(refused(&format!("the type {name}"), way_out))
}

/// Formats the error for a feature that PostgreSQL lacks. `feature` is a singular noun.
pub(super) fn refused(feature: &str, way_out: &str) -> String {
    format!("ERROR: {feature} exists on Amazon Redshift, but PostgreSQL has no equivalent\n  Hint: {way_out}")
}

/// Returns the error text for a function or system view that Redshift has and the server lacks. Used only
/// after the server reports the object as missing, because a user may have created one with that name.
pub(in crate::postgres) fn of_missing(name: &str) -> Option<String> {
    let name = name.to_ascii_uppercase();
    let views = ["STL_", "STV_", "SVL_", "SVV_", "SVCS_", "SYS_"];
    if views.iter().any(|view| name.starts_with(view)) || name == "PG_TABLE_DEF" {
        let way_out = "query information_schema, SVV_TABLES, SVV_COLUMNS, PG_TABLE_DEF or pg_stat_activity, or create a table with that name for a test";
        return Some(refused(&format!("the system view {name}"), way_out));
    }
    let way_out = match name.as_str() {
        "NVL" | "NVL2" | "ISNULL" | "GETDATE" | "DATEADD" | "DATEDIFF" | "DATE_ADD" | "DATE_DIFF"
        | "LISTAGG" | "LEN" | "CHARINDEX" | "REPLICATE" | "MEDIAN" | "ADD_MONTHS" | "MONTHS_BETWEEN"
        | "LAST_DAY" | "NEXT_DAY" | "CONVERT_TIMEZONE" | "STRTOL" | "SHA2" => {
            "only the statement itself, and strings that a procedure EXECUTEs directly or through a variable, are translated: write the whole call in one of these"
        }
        "SHA" | "SHA1" | "FUNC_SHA1" => "use SHA2(…, 256)",
        "CHECKSUM" | "CRC32" | "FARMHASH64" | "FARMFINGERPRINT64" | "FNV_HASH" | "MURMUR3_32_HASH" => {
            "use MD5 or SHA2, whose results differ"
        }
        "HLL" | "HLL_CREATE_SKETCH" | "HLL_CARDINALITY" | "HLL_COMBINE" | "HLL_COMBINE_SKETCHES" => {
            "use COUNT(DISTINCT …)"
        }
        "TEXT_TO_INT_ALT" | "TEXT_TO_NUMERIC_ALT" => "use CAST or TO_NUMBER",
        "PG_LAST_QUERY_ID"
        | "PG_LAST_COPY_ID"
        | "PG_LAST_COPY_COUNT"
        | "PG_LAST_UNLOAD_ID"
        | "PG_LAST_UNLOAD_COUNT" => "call DescribeStatement, which returns RedshiftQueryId and ResultRows",
        "SOUNDEX" | "DIFFERENCE" | "LAMBDA" | "KURTOSIS" | "SKEWNESS" | "BPCHARCMP"
        | "BTTEXT_PATTERN_CMP" => "CREATE FUNCTION with that name and the results that a test needs",
        "OBJECT" | "ARRAY" | "ARRAY_CONCAT" | "ARRAY_FLATTEN" | "GET_ARRAY_LENGTH" | "SPLIT_TO_ARRAY"
        | "SUBARRAY" | "JSON_TYPEOF" | "OBJECT_TRANSFORM" | "IS_ARRAY" | "IS_OBJECT" | "IS_SCALAR" => SUPER,
        _ => return None,
    };
    Some(refused(&format!("the function {name}"), way_out))
}

/// Returns the tokens of a statement, up to its semicolon.
fn statement<'a>(reader: Reader<'a, '_>, begin: usize, end: usize) -> impl Iterator<Item = Token<'a>> {
    reader.tokens[begin..reader.statement_end(begin, end)].iter().copied()
}
