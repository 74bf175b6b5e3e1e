//! Runs Redshift's SQL on PostgreSQL.

use redshift_data_local::{LocalExecutor, Postgres};
use redshift_orchestrator::{Field, Statement, StatementExecutor, Status, WaitTime};

use crate::harness::{Database, rows, run};

async fn value(service: &LocalExecutor<Postgres>, sql: &str) -> String {
    let done = run(service, &Statement::sql(sql)).await;
    assert_eq!(done.error, None, "{sql}");
    texts(rows(service, &done.id).await)
}

fn texts(rows: Vec<Vec<Field>>) -> String {
    let fields: Vec<_> = rows
        .into_iter()
        .flatten()
        .map(|field| match field {
            Field::Null => "NULL".to_owned(),
            Field::Boolean(value) => value.to_string(),
            Field::Long(value) => value.to_string(),
            Field::Double(value) => value.to_string(),
            Field::String(value) => value,
            other => format!("{other:?}"),
        })
        .collect();
    fields.join(" | ")
}

async fn does(service: &LocalExecutor<Postgres>, sql: &str) {
    let done = run(service, &Statement::sql(sql)).await;
    assert_eq!((done.status, done.error), (Status::Finished, None), "{sql}");
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: scripts/test"]
async fn functions_return_redshifts_results() {
    let service = Database::new("dialect_functions").await.start().await;
    // The expected results are copied from Redshift's documentation if it has the example.
    for (sql, expected) in [
        ("SELECT NVL(NULL, 5), ISNULL(NULL, 'x'), NVL2(NULL, 1, 2), NVL2('a', 1, 2)", "5 | x | 2 | 1"),
        (
            "SELECT DECODE(NULL, 1, 'one', NULL, 'none', 'other'), DECODE(3, 1, 'one'), DECODE(1, 1, 'one')",
            "none | NULL | one",
        ),
        (
            "SELECT DATEADD(month, 1, '2008-04-30'), DATEADD(day, 18, '2008-02-28')",
            "2008-05-30 00:00:00 | 2008-03-17 00:00:00",
        ),
        (
            "SELECT DATEADD(m, 50, '2008-01-01 00:00:00'::timestamp), DATEADD(qtr, -1, DATE '2026-11-23')",
            "2008-01-01 00:50:00 | 2026-08-23 00:00:00",
        ),
        (
            "SELECT DATEDIFF(week, '2009-01-01', '2009-12-31'), DATEDIFF(qtr, '1998-07-01', DATE '2008-10-01')",
            "52 | 41",
        ),
        (
            "SELECT DATEDIFF(day, '2026-01-01 23:59', '2026-01-02'), DATEDIFF(yr, '2025-12-31', '2026-01-01')",
            "1 | 1",
        ),
        ("SELECT DATE_PART(y, DATE '2026-11-23'), DATE_PART(w, '2026-11-23')", "2026 | 48"),
        (
            "SELECT ADD_MONTHS('2008-03-31', 1), ADD_MONTHS('2008-04-30', 1)",
            "2008-04-30 00:00:00 | 2008-05-31 00:00:00",
        ),
        (
            "SELECT LAST_DAY('2024-02-10'), NEXT_DAY('2014-08-20', 'Tuesday'), MONTHS_BETWEEN('1969-01-18', '1969-03-18')",
            "2024-02-29 | 2014-08-26 | -2",
        ),
        ("SELECT CONVERT_TIMEZONE('EST', 'PST', '2008-08-21 07:23:54')", "2008-08-21 04:23:54"),
        (
            "SELECT TRUNC(TIMESTAMP '2011-07-21 10:32:38.248109'), TRUNC(110.22), ROUND(28.05::float, 1)",
            "2011-07-21 | 110 | 28.1",
        ),
        (
            "SELECT LEN('cat'), CHARINDEX('fish', 'dogfish'), REPLICATE('ab', 2), STRTOL('abcd1234', 16)",
            "3 | 4 | abab | 2882343476",
        ),
        (
            "SELECT CONVERT(INT, '12'), CONVERT(DECIMAL(5, 1), 2.25), CAST('a' AS VARCHAR(MAX))",
            "12 | 2.3 | a",
        ),
        (
            "SELECT SHA2('Redshift', 0) = SHA2('Redshift', 256), JSON_EXTRACT_PATH_TEXT('{\"a\": {\"b\": 7}}', 'a', 'b')",
            "true | 7",
        ),
        (
            "SELECT JSON_ARRAY_LENGTH('[1, 2]'), JSON_EXTRACT_ARRAY_ELEMENT_TEXT('[1, 2]', 1), IS_VALID_JSON('{')",
            "2 | 2 | false",
        ),
        (
            "SELECT SUM(n), SUM(DISTINCT n), SUM(n::REAL), SUM(n::FLOAT), SUM(n::DECIMAL(9, 1)), SUM(n::SMALLINT) FROM (SELECT 3 AS n UNION ALL SELECT 3 UNION ALL SELECT NULL)",
            "6 | 3 | 6 | 6 | 6.0 | 6",
        ),
        (
            "SELECT SUM(n), SUM(n::BIGINT), SUM(n::REAL), SUM(n::FLOAT), SUM(n::DECIMAL), SUM(INTERVAL '1 day') FROM (SELECT 1 AS n) WHERE false",
            "NULL | NULL | NULL | NULL | NULL | NULL",
        ),
        (
            "SELECT SUM(n) OVER (ORDER BY n ROWS 1 PRECEDING), SUM(n::REAL) OVER (ORDER BY n ROWS 1 PRECEDING) FROM (SELECT 1::BIGINT AS n UNION SELECT 2 UNION SELECT 3) ORDER BY 1",
            "1 | 1 | 3 | 3 | 5 | 5",
        ),
        (
            "SELECT GETDATE() <= SYSDATE + INTERVAL '1 minute', DATEDIFF(minute, GETDATE(), SYSDATE)",
            "true | 0",
        ),
    ] {
        assert_eq!(value(&service, sql).await, expected, "{sql}");
    }
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: scripts/test"]
async fn tables_queries_and_maintenance_are_translated() {
    let service = Database::new("dialect_tables").await.start().await;
    for sql in [
        "CREATE TABLE item (id BIGINT IDENTITY(0, 1) NOT NULL ENCODE az64 DISTKEY, kind VARCHAR(MAX) ENCODE zstd, price DECIMAL(10, 2), at DATETIME DEFAULT SYSDATE)
         DISTSTYLE KEY COMPOUND SORTKEY (at, id)",
        "INSERT INTO item (kind, price) VALUES ('a', 1.50), ('b', 2.50), ('a', 3.50), (NULL, 4)",
        "CREATE TABLE copied (LIKE item INCLUDING DEFAULTS)",
        "CREATE TABLE cheap DISTSTYLE ALL SORTKEY (price) AS SELECT TOP 2 id, price FROM item ORDER BY price",
        "CREATE TABLE #work (id BIGINT)",
        "CREATE VIEW kinds AS SELECT NVL(kind, 'none') AS kind FROM item WITH NO SCHEMA BINDING",
        "CREATE MATERIALIZED VIEW sums BACKUP NO AUTO REFRESH YES AS SELECT kind, SUM(price) AS price FROM item GROUP BY kind",
        "REFRESH MATERIALIZED VIEW sums",
        "ALTER TABLE item ADD COLUMN note NVARCHAR(20) ENCODE lzo DEFAULT 'none'",
        "ALTER TABLE item ALTER SORTKEY (id)",
        "ALTER TABLE item ALTER DISTSTYLE EVEN",
        "SET query_group TO 'elt'",
        "ANALYZE item PREDICATE COLUMNS",
        "VACUUM DELETE ONLY item TO 90 PERCENT",
        "VACUUM FULL item",
        "DELETE cheap WHERE price > 2",
        "MERGE INTO cheap USING item ON cheap.id = item.id WHEN MATCHED THEN UPDATE SET price = item.price + 1 WHEN NOT MATCHED THEN INSERT VALUES (item.id, item.price)",
        "TRUNCATE TABLE copied",
    ] {
        does(&service, sql).await;
    }
    for (sql, expected) in [
        ("SELECT MIN(id), MAX(id), MAX(note) FROM item", "0 | 3 | none"),
        ("SELECT COUNT(*), MIN(price) FROM cheap", "4 | 2.50"),
        ("SELECT LISTAGG(DISTINCT kind, '+') WITHIN GROUP (ORDER BY kind) FROM kinds", "a+b+none"),
        ("SELECT LISTAGG(id, ',') WITHIN GROUP (ORDER BY price DESC) FROM item", "3,2,1,0"),
        ("SELECT APPROXIMATE COUNT(DISTINCT kind), ANY_VALUE(note), MEDIAN(price) FROM item", "2 | none | 3"),
        ("SELECT kind FROM kinds MINUS SELECT 'a' MINUS SELECT 'b'", "none"),
        ("SELECT TOP 1 id FROM item UNION ALL SELECT TOP 1 id FROM item ORDER BY id", "0 | 0"),
    ] {
        assert_eq!(value(&service, sql).await, expected, "{sql}");
    }
    let explicit = run(&service, &Statement::sql("INSERT INTO item (id) VALUES (9)")).await;
    assert!(explicit.error.unwrap().contains("cannot insert a non-DEFAULT value into column \"id\""));
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: scripts/test"]
async fn procedures_return_redshifts_results() {
    let service = Database::new("dialect_procedures").await.start().await;
    does(&service, "CREATE TABLE log (at TIMESTAMP DEFAULT GETDATE(), what VARCHAR(MAX)) DISTSTYLE EVEN")
        .await;
    does(
        &service,
        "CREATE OR REPLACE PROCEDURE load(f1 IN int, f2 INOUT varchar(256), out_var OUT varchar(256)) NONATOMIC AS $$
         DECLARE started DATETIME := GETDATE();
         BEGIN
            INSERT INTO log (what) SELECT NVL(f2, 'none');
            DELETE log WHERE DATEDIFF(day, at, started) > 7;
            SELECT INTO out_var 'loaded ' || LEN(f2);
            f2 := f2 || '+';
         END $$ LANGUAGE plpgsql SECURITY INVOKER",
    ).await;
    // A CALL omits OUT parameters, as on Redshift.
    assert_eq!(value(&service, "CALL load(2, '2019')").await, "2019+ | loaded 4");
    let named = Statement::sql("CALL load(:n, :year)").with_parameter("n", "2").with_parameter("year", "26");
    assert_eq!(run(&service, &named).await.error, None);

    does(
        &service,
        "CREATE PROCEDURE get_log(param IN integer, rs_out INOUT refcursor) AS $$
         BEGIN OPEN rs_out FOR SELECT what FROM log WHERE LEN(what) > param ORDER BY what; END $$ LANGUAGE plpgsql",
    ).await;
    let batch = Statement::batch(["CALL get_log(1, 'mycursor')", "FETCH ALL FROM mycursor"]);
    let done = run(&service, &batch).await;
    assert_eq!((&done.status, &done.error), (&Status::Finished, &None));
    let fetched = rows(&service, &done.id.sub_statement(2)).await;
    assert_eq!(fetched, ["2019", "26"].map(|what| vec![Field::String(what.to_owned())]));
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: scripts/test"]
async fn features_of_redshift_only_fail_by_name_without_an_effect() {
    let database = Database::new("dialect_refused").await;
    let service = database.start().await;
    for (sql, feature) in [
        ("COPY effects FROM 's3://bucket/key' IAM_ROLE default", "COPY from S3"),
        ("UNLOAD ('SELECT 1') TO 's3://bucket/key' IAM_ROLE default", "UNLOAD"),
        (
            "CREATE EXTERNAL SCHEMA lake FROM DATA CATALOG DATABASE 'lake' IAM_ROLE default",
            "CREATE EXTERNAL SCHEMA",
        ),
        ("CREATE TABLE doc (body SUPER)", "SUPER"),
    ] {
        let batch = Statement::batch(["INSERT INTO effects VALUES ('x')", sql]);
        let done = run(&service, &batch).await;
        let error = done.error.unwrap();
        assert!(
            error.starts_with("Query #2 failed with ERROR: ")
                && error.contains(feature)
                && error.contains("Hint: "),
            "{error}"
        );
    }
    assert_eq!(database.effects("x").await, 0);
    let wide = run(&service, &Statement::sql("SELECT REPLICATE('x', 70000)")).await;
    assert!(wide.error.unwrap().contains("Packet for query is too large"));
    let two = service.submit(&Statement::sql("SELECT 1; SELECT 2"), Some(WaitTime::MAX)).await.unwrap_err();
    assert!(two.message().contains("must be a single SQL statement"));
}

/// Runs the statements of a script. After `-->` comes the expected outcome: the rows, `ok`, `fails:` with an
/// error, or `refused:` with a feature. `&&` joins statements into a batch.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: scripts/test"]
async fn typical_elt_sql_runs_as_on_redshift_or_is_rejected_by_name() {
    let service = Database::new("dialect_elt").await.start().await;
    let mut wrong = Vec::new();
    for case in include_str!("../data/redshift.sql").split("\n\n") {
        let (sql, expected) = case.trim().rsplit_once("\n--> ").expect(case);
        let found = outcome(&service, sql).await;
        let fits = match expected.split_once(": ") {
            Some(("refused", feature)) => {
                found.contains(feature) && found.contains("exists on Amazon Redshift")
            }
            Some(("fails", text)) => found.contains(text) && found.starts_with("FAILED"),
            _ => found == expected,
        };
        if !fits {
            wrong.push(format!("{sql}\n    {found}\n    expected: {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

async fn outcome(service: &LocalExecutor<Postgres>, sql: &str) -> String {
    let statements: Vec<_> = sql.split("\n&& ").collect();
    let statement = match statements[..] {
        [one] => Statement::sql(one),
        _ => Statement::batch(statements),
    };
    let done = run(service, &statement).await;
    if let Some(error) = done.error {
        return format!("{} {error}", done.status);
    }
    let id = match done.sub_statements.last() {
        Some(last) => last.id.clone(),
        None => done.id.clone(),
    };
    match done.has_result_set {
        false => "ok".to_owned(),
        true => texts(rows(service, &id).await),
    }
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: scripts/test"]
async fn the_columns_of_a_result_have_redshifts_names_and_types() {
    let service = Database::new("dialect_columns").await.start().await;
    for (sql, expected) in [
        ("SELECT 1 AS \"Total\", 2 AS \"Group Name\"", "total int4, group name int4"),
        ("SELECT STDDEV(x), VAR_POP(x) FROM (SELECT 1.5 AS x)", "stddev float8, var_pop float8"),
        ("SELECT CURRENT_USER_ID, REGEXP_SUBSTR('a', 'a')", "current_user_id int4, regexp_substr varchar"),
        ("SELECT TO_DATE('20010631', 'YYYYMMDD'), 1.5::DECIMAL", "to_date date, numeric numeric"),
        (
            "SELECT SUM(1::SMALLINT), SUM(1) AS i, SUM(1::BIGINT) AS b, SUM(1.5) AS n, SUM(1::REAL) AS r, SUM(1::FLOAT) AS f",
            "sum int8, i int8, b int8, n numeric, r float8, f float8",
        ),
        (
            "SELECT SUM(DISTINCT n), SUM(SUM(n)) OVER () AS w, SUM(SUM(n::REAL)) OVER (ORDER BY 1 ROWS UNBOUNDED PRECEDING) AS r FROM (SELECT 1::BIGINT AS n)",
            "sum int8, w int8, r float8",
        ),
    ] {
        let done = run(&service, &Statement::sql(sql)).await;
        assert_eq!(done.error, None, "{sql}");
        let columns = service.result(&done.id, None).await.unwrap().columns;
        let names: Vec<_> = columns.iter().map(|one| format!("{} {}", one.name, one.type_name)).collect();
        assert_eq!(names.join(", "), expected, "{sql}");
    }
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: scripts/test"]
async fn differences_remain_as_documented() {
    let service = Database::new("dialect_differences").await.start().await;
    for sql in ["BEGIN", "COMMIT", "BEGIN\n&& SELECT 1\n&& COMMIT"] {
        assert!(outcome(&service, sql).await.contains("cannot be submitted"), "{sql}");
    }
    assert!(value(&service, "SELECT version()").await.starts_with("PostgreSQL "));
    does(&service, "CREATE TABLE made AS SELECT 'x' AS a").await;
    let of_a = "SELECT data_type FROM information_schema.columns WHERE table_name = 'made'";
    assert_eq!(value(&service, of_a).await, "text");
    does(&service, "DECLARE c CURSOR FOR SELECT 1").await;
    assert!(outcome(&service, "FETCH ALL FROM c").await.contains("cursor \"c\" does not exist"));
    let number = outcome(&service, "SELECT SYSDATE - 1").await;
    assert!(number.contains("operator does not exist: timestamp without time zone - integer"), "{number}");
    assert_eq!(value(&service, "SELECT SYSDATE - INTERVAL '1 day' < SYSDATE").await, "true");
}
