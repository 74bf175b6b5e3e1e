//! Checks the dialect with an independent parser: SQL that `sqlparser` accepts as Redshift's must be
//! translated to SQL that it accepts as PostgreSQL's.
//!
//! The corpus contains the SQL of the tests and examples, including the statements inside procedures, and
//! statements that a grammar generates from seeds. Set `DIALECT_SEED` to replay one generated statement.

use std::{
    collections::BTreeMap,
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use sqlparser::{
    ast::{Expr, Statement, TableFactor, Visit, Visitor},
    dialect::{Dialect, PostgreSqlDialect, RedshiftSqlDialect},
    parser::Parser,
};

use super::{Case, functions, translate};
use redshift_orchestrator::sql::{Token, split, tokens};

const LIBRARY: &str = "\"lib\"";

/// First words of translations that the server accepts but `sqlparser` does not, each with the reason.
const NOT_READ: [(&str, &str); 1] = [(
    "DO",
    "sqlparser does not parse DO, which replaces an ALTER TABLE that resizes a column, a statement that names a \
     procedure with its parameters, and statements without effect",
)];

fn parse(dialect: &dyn Dialect, sql: &str) -> Result<Vec<Statement>, String> {
    Parser::parse_sql(dialect, sql).map_err(|error| error.to_string())
}

/// Collects errors that PostgreSQL 15 reports but the parser does not.
#[derive(Default)]
struct Strict {
    faults: Vec<String>,
}

impl Visitor for Strict {
    type Break = ();

    fn pre_visit_table_factor(&mut self, table: &TableFactor) -> ControlFlow<()> {
        if let TableFactor::Derived { alias: None, .. } = table {
            self.faults.push(format!("a subquery without an alias: {table}"));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if let Expr::Function(function) = expr
            && let [name] = function.name.0.as_slice()
            && let Some(name) = name.as_ident().filter(|name| name.quote_style.is_none())
            && functions::is_redshifts_alone(&name.value)
        {
            self.faults.push(format!("a call to a function that only Redshift has: {expr}"));
        }
        ControlFlow::Continue(())
    }
}

/// Outcome for one statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Found {
    /// `sqlparser` does not accept the statement as Redshift's SQL.
    NotRead,
    /// The dialect rejects the statement.
    Refused,
    /// `sqlparser` accepts both the statement and its translation.
    Agreed,
    /// The translation begins with one of [`NOT_READ`].
    Listed,
}

/// Checks one statement.
///
/// # Errors
/// Returns a description of the disagreement.
fn judge(sql: &str) -> Result<Found, String> {
    if parse(&RedshiftSqlDialect {}, sql).is_err() {
        return Ok(Found::NotRead);
    }
    let Ok(translated) = translate(sql, LIBRARY, Case::Folded) else { return Ok(Found::Refused) };
    let first = tokens(&translated).find_map(|token| match token {
        Token::Word(word) => Some(word.to_ascii_uppercase()),
        _ => None,
    });
    match parse(&PostgreSqlDialect {}, &readable(&translated)) {
        Err(_) if NOT_READ.iter().any(|(word, _)| first.as_deref() == Some(word)) => Ok(Found::Listed),
        Err(error) => Err(format!("{sql}\n  became {translated}\n  {error}")),
        Ok(statements) => {
            let mut strict = Strict::default();
            let _ = statements.visit(&mut strict);
            match strict.faults.as_slice() {
                [] => Ok(Found::Agreed),
                faults => Err(format!("{sql}\n  became {translated}\n  {}", faults.join("; "))),
            }
        }
    }
}

/// Removes syntax that PostgreSQL accepts but `sqlparser` does not: `(value).*`, which selects all columns of
/// a row and results from the translation of `QUALIFY`, and the options of `LIKE` in the column list of
/// `CREATE TABLE`.
fn readable(sql: &str) -> String {
    let sql = sql.replace(" INCLUDING CONSTRAINTS)", ")");
    let mut pieces = sql.split("(\"~q\".\"~");
    let mut text = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        text.push_str("\"~q\".\"~");
        text.push_str(&piece.replacen("\").*", "\"", 1));
    }
    text
}

/// Checks all statements and counts the outcomes.
fn judge_all(statements: impl IntoIterator<Item = String>) -> BTreeMap<Found, usize> {
    let (mut found, mut wrong) = (BTreeMap::new(), Vec::new());
    for sql in statements {
        match judge(&sql) {
            Ok(how) => *found.entry(how).or_default() += 1,
            Err(disagreement) => wrong.push(disagreement),
        }
    }
    assert!(
        wrong.is_empty(),
        "{} disagreements:\n{}",
        wrong.len(),
        wrong[..wrong.len().min(12)].join("\n\n")
    );
    found
}

/// Splits a script into its statements, including the SQL statements inside its bodies.
fn statements(script: &str) -> Vec<String> {
    let mut statements = split(script);
    let bodies: Vec<_> = tokens(script)
        .filter_map(|token| match token {
            Token::Quoted(body) if body.starts_with('$') => Some(body.trim_matches('$').to_owned()),
            _ => None,
        })
        .collect();
    for body in bodies {
        statements.extend(split(&body).into_iter().map(|sql| {
            // Skips the words that begin a block.
            let begin = ["BEGIN", "THEN", "ELSE", "LOOP"].iter().filter_map(|word| {
                let at = sql.to_ascii_uppercase().rfind(word)?;
                Some(at + word.len())
            });
            sql[begin.max().unwrap_or(0).min(sql.len())..].trim().to_owned()
        }));
    }
    statements
}

/// Finds a file or directory in this package or in the nearest parent directory that has it.
fn nearest(path: &str) -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.ancestors().map(|directory| directory.join(path)).find(|path| path.exists()).expect(path)
}

#[test]
fn the_sql_of_tests_and_examples_is_parsed_before_and_after_translation() {
    let mut corpus = Vec::new();
    for case in std::fs::read_to_string(nearest("tests/data/redshift.sql")).unwrap().split("\n\n") {
        let (sql, _) = case.trim().rsplit_once("\n--> ").expect(case);
        corpus.extend(sql.split("\n&& ").flat_map(statements));
    }
    for entry in std::fs::read_dir(nearest("examples/mystore/sql")).unwrap() {
        corpus.extend(statements(&std::fs::read_to_string(entry.unwrap().path()).unwrap()));
    }
    let found = judge_all(corpus);
    assert!(found[&Found::Agreed] > 250, "{found:?}");
}

#[test]
fn generated_sql_is_parsed_before_and_after_translation() {
    let only = std::env::var("DIALECT_SEED").ok().map(|seed| seed.parse().unwrap());
    let seeds = only.map_or(0..4_000, |seed| seed..seed + 1);
    let found = judge_all(seeds.map(|seed| {
        let sql = Grammar::new(seed).statement();
        if only.is_some() {
            println!("{sql}");
        }
        format!("/* DIALECT_SEED={seed} */ {sql}")
    }));
    assert!(only.is_some() || found[&Found::Agreed] > 3_000, "{found:?}");
}

/// Generator of random Redshift SQL.
struct Grammar {
    rng: fastrand::Rng,
    depth: usize,
}

impl Grammar {
    fn new(seed: u64) -> Self {
        Self { rng: fastrand::Rng::with_seed(seed), depth: 0 }
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.rng.usize(..of.len())]
    }

    fn maybe(&mut self, one_in: usize) -> bool {
        self.rng.usize(..one_in) == 0
    }

    fn list(&mut self, most: usize, item: impl Fn(&mut Self) -> String) -> String {
        let items: Vec<_> = (0..=self.rng.usize(..most)).map(|_| item(self)).collect();
        items.join(self.one(&[", ", ",", " , ", ",\n    "]))
    }

    fn column(&mut self) -> String {
        let name = self.one(&["a", "b", "Sold_At", "\"Odd \"\"name\"", "len", "trunc", "encode"]);
        match self.maybe(4) {
            true => format!("t.{name}"),
            false => name.to_owned(),
        }
    }

    fn literal(&mut self) -> String {
        self.one(&["1", "2.5", "'x'", "'it''s'", "NULL", "TRUE", "'2026-01-31'", "'NVL(a, 1)'", "'-- no'"])
            .to_owned()
    }

    fn part(&mut self) -> &'static str {
        self.one(&["day", "mon", "'week'", "hrs", "quarter"])
    }

    fn name(&mut self, word: &str) -> String {
        match self.rng.usize(..4) {
            0 => word.to_ascii_lowercase(),
            1 => format!("{word} "),
            _ => word.to_owned(),
        }
    }

    fn call(&mut self) -> String {
        let (a, b) = (self.expression(), self.expression());
        let part = self.part();
        match self.rng.usize(..26) {
            0 => format!("{}({a}, {b})", self.name("NVL")),
            1 => format!("NVL2({a}, {b}, {})", self.expression()),
            2 => format!("{}({a}, {b}, {}, {})", self.name("DECODE"), self.expression(), self.literal()),
            3 => "GETDATE()".to_owned(),
            4 => "SYSDATE".to_owned(),
            5 => format!("DATEADD({part}, 1, {a})"),
            6 => format!("{}({part}, {a}, {b})", self.name("DATEDIFF")),
            7 => format!("DATE_TRUNC('month', {a})"),
            8 => format!("{}({a})", self.name("LEN")),
            9 => format!("CHARINDEX({a}, {b})"),
            10 => format!("CONCAT({a}, {b})"),
            11 => format!("EXTRACT(day FROM {a})"),
            12 => format!("CAST({a} AS {})", self.a_type()),
            13 => format!("CONVERT({}, {a})", self.one(&["INT", "DECIMAL(10, 2)", "DECIMAL", "VARCHAR(20)"])),
            14 => format!("ISNULL({a}, {b})"),
            15 => format!("LAST_DAY({a})"),
            16 => format!("JSON_EXTRACT_PATH_TEXT({a}, 'b')"),
            17 => format!("REGEXP_REPLACE({a}, '[0-9]+', {b})"),
            18 => format!("TRUNC({a})"),
            19 => format!("REPLICATE({a}, 2)"),
            20 => format!("COALESCE({a}, {b})"),
            21 => format!("CASE WHEN {} THEN {a} ELSE {b} END", self.condition()),
            22 => format!("({a})::{}", self.a_type()),
            23 => format!("STRTOL({a}, 16)"),
            24 => format!("ADD_MONTHS({a}, 1)"),
            _ => format!("UPPER({a})"),
        }
    }

    fn a_type(&mut self) -> &'static str {
        self.one(&[
            "INT",
            "VARCHAR(20)",
            "VARCHAR(MAX)",
            "TIMESTAMP",
            "DECIMAL(10,2)",
            "NUMERIC",
            "DOUBLE PRECISION",
            "DATE",
        ])
    }

    fn aggregate(&mut self) -> String {
        let a = self.column();
        match self.rng.usize(..8) {
            0 => format!("LISTAGG({a}, ',') WITHIN GROUP (ORDER BY {a})"),
            1 => format!("LISTAGG(DISTINCT {a})"),
            2 => format!("MEDIAN({a})"),
            3 => format!("AVG({a})"),
            4 => format!("COUNT(DISTINCT {a})"),
            5 => format!("PERCENTILE_CONT(0.5) WITHIN GROUP (ORDER BY {a} DESC)"),
            6 => format!("ANY_VALUE({a})"),
            _ => format!("SUM({a})"),
        }
    }

    fn window(&mut self) -> String {
        let (a, b) = (self.column(), self.column());
        match self.rng.usize(..6) {
            0 => format!("ROW_NUMBER() OVER (PARTITION BY {a} ORDER BY {b} DESC)"),
            1 => format!("RATIO_TO_REPORT({a}) OVER (PARTITION BY {b})"),
            2 => format!("MEDIAN({a}) OVER (PARTITION BY {b})"),
            3 => format!("LAG({a}, 1) OVER (ORDER BY {b})"),
            4 => format!("LISTAGG({a}, ',') WITHIN GROUP (ORDER BY {b}) OVER (PARTITION BY {a})"),
            _ => format!(
                "FIRST_VALUE({a}) IGNORE NULLS OVER (ORDER BY {b} ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)"
            ),
        }
    }

    fn expression(&mut self) -> String {
        self.depth += 1;
        let text = match self.rng.usize(..if self.depth > 4 { 2 } else { 9 }) {
            0 => self.column(),
            1 => self.literal(),
            2 => format!("{} {} {}", self.expression(), self.one(&["+", "-", "||", "*"]), self.expression()),
            3 => format!("({})", self.expression()),
            4 if self.depth < 3 => format!("(SELECT {} FROM {})", self.call(), self.tables()),
            _ => self.call(),
        };
        self.depth -= 1;
        text
    }

    fn condition(&mut self) -> String {
        let (a, b) = (self.expression(), self.expression());
        match self.rng.usize(..6) {
            0 => format!("{a} IS NOT NULL"),
            1 => format!("{a} IN ({b}, {})", self.literal()),
            2 => format!("{a} BETWEEN {b} AND {}", self.literal()),
            3 => format!("NOT ({a} = {b})"),
            4 => format!("{a} LIKE '%x' AND {b} > 1"),
            _ => format!("{a} = {b}"),
        }
    }

    fn item(&mut self) -> String {
        let text = match self.rng.usize(..6) {
            0 => self.column(),
            1 => self.window(),
            _ => self.expression(),
        };
        match self.rng.usize(..4) {
            0 => format!("{text} AS n{}", self.rng.u8(..)),
            1 => format!("{text} named"),
            _ => text,
        }
    }

    fn table(&mut self) -> String {
        self.depth += 1;
        let query = if self.depth > 3 { 4 } else { 0 };
        let text = match self.rng.usize(query..8) {
            0 => format!("({})", self.query()),
            1 => format!("({}) q", self.query()),
            2 => format!("({}) AS q (a, len)", self.query()),
            3 => format!("(({}))", self.query()),
            4 => "s.t AS t".to_owned(),
            5 => "t AS trunc (a, b)".to_owned(),
            6 => "\"T\"".to_owned(),
            _ => "t".to_owned(),
        };
        self.depth -= 1;
        text
    }

    fn tables(&mut self) -> String {
        let mut text = self.table();
        for _ in 0..self.rng.usize(..3) {
            let table = self.table();
            text = match self.rng.usize(..4) {
                0 => format!("{text}, {table}"),
                1 => format!("{text} LEFT JOIN {table} USING (a)"),
                2 => format!("{text} CROSS JOIN {table}"),
                _ => format!("{text} JOIN {table} ON {}", self.condition()),
            };
        }
        text
    }

    fn query(&mut self) -> String {
        self.depth += 1;
        let mut text = String::new();
        if self.depth < 3 && self.maybe(5) {
            let name = self.one(&["q", "last_day (d)", "decode (a, b)", "len(n)"]);
            text.push_str(&format!("WITH {name} AS ({}) ", self.query()));
        }
        text.push_str(self.one(&["SELECT ", "select\n    ", "SELECT DISTINCT ", "SELECT TOP 5 "]));
        let aggregates = self.maybe(4);
        text.push_str(&match aggregates {
            true => self.list(3, Self::aggregate),
            false if self.maybe(8) => "*".to_owned(),
            false => self.list(3, Self::item),
        });
        text.push_str(&format!(" FROM {}", self.tables()));
        if self.maybe(2) {
            text.push_str(&format!(" WHERE {}", self.condition()));
        }
        if aggregates && self.maybe(2) {
            text.push_str(&format!(" GROUP BY {}", self.list(2, Self::column)));
        }
        if !aggregates && self.maybe(6) {
            text.push_str(&format!(" QUALIFY {} = 1", self.window()));
        }
        let top = text.contains("TOP 5");
        match self.rng.usize(..6) {
            0 if !top => {
                let operator = self.one(&["UNION ALL", "UNION", "EXCEPT", "INTERSECT", "MINUS"]);
                text.push_str(&format!(" {operator} SELECT {} FROM t", self.item()));
            }
            1 => text.push_str(&format!(" ORDER BY {} DESC", self.column())),
            2 if !top => text.push_str(" LIMIT 3"),
            _ => {}
        }
        self.depth -= 1;
        text
    }

    fn definition(&mut self) -> String {
        let name = self.one(&["a", "b", "\"C\"", "len", "encode"]);
        let of_type = self.one(&[
            "INT",
            "BIGINT",
            "VARCHAR(20)",
            "VARCHAR",
            "TEXT",
            "CHAR(3)",
            "TIMESTAMP",
            "DECIMAL(10, 2)",
            "BOOLEAN",
        ]);
        let attribute = match self.rng.usize(..5) {
            0 => " NOT NULL".to_owned(),
            1 => " DISTKEY".to_owned(),
            2 => format!(" DEFAULT {}", self.one(&["1", "GETDATE()", "SYSDATE", "NVL(1, 2)"])),
            _ => String::new(),
        };
        format!("{name} {of_type}{attribute}")
    }

    fn statement(&mut self) -> String {
        match self.rng.usize(..16) {
            0 => format!("INSERT INTO s.t {}", self.query()),
            1 => format!("INSERT INTO t (a, b) VALUES ({})", self.list(2, Self::expression)),
            2 => format!("UPDATE t SET a = {} WHERE {}", self.expression(), self.condition()),
            3 => format!("UPDATE t SET a = q.a FROM ({}) q WHERE {}", self.query(), self.condition()),
            4 => format!("DELETE FROM t WHERE {}", self.condition()),
            5 => format!("DELETE FROM t USING ({}) q WHERE {}", self.query(), self.condition()),
            6 => format!("CREATE TABLE x AS {}", self.query()),
            7 => format!("CREATE VIEW v AS {}", self.query()),
            8 => format!("CREATE {}TABLE s.x ({})", self.one(&["", "TEMP "]), self.list(4, Self::definition)),
            9 => format!(
                "MERGE INTO t USING ({}) q ON t.a = q.a WHEN MATCHED THEN UPDATE SET a = {} WHEN NOT MATCHED THEN INSERT (a) VALUES ({})",
                self.query(),
                self.expression(),
                self.expression(),
            ),
            10 => format!("ALTER TABLE s.t ADD COLUMN {}", self.definition()),
            _ => self.query(),
        }
    }
}
