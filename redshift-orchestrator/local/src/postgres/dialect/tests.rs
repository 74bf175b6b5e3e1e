use proptest::prelude::*;

use super::Case;

fn translate(sql: &str) -> String {
    super::translate(sql, "lib", Case::Folded).unwrap().into_owned()
}

fn refused(sql: &str) -> String {
    super::translate(sql, "lib", Case::Folded).expect_err(sql)
}

/// Compares the texts without regard to white space.
fn assert_translated(redshift: &str, postgres: &str) {
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(words(&translate(redshift)), words(postgres), "{redshift}");
}

#[test]
fn functions_of_redshift_are_translated() {
    for (redshift, postgres) in [
        ("SELECT NVL(a, 0), nvl (b, 1)", "SELECT COALESCE(a, 0), COALESCE (b, 1)"),
        (
            "SELECT NVL2(a -- if any\n, b, c)",
            "SELECT (CASE WHEN (a -- if any\n) IS NOT NULL THEN b ELSE c END)",
        ),
        ("SELECT ISNULL(a, NVL(b, 1))", "SELECT COALESCE(a, COALESCE(b, 1))"),
        ("SELECT NVL2(a, f(b, c), ')')", "SELECT (CASE WHEN (a) IS NOT NULL THEN f(b, c) ELSE ')' END)"),
        (
            "SELECT DECODE(x, 1, 'one', NULL, 'none', NVL(y, 'z'))",
            "SELECT (CASE WHEN (x) IS NOT DISTINCT FROM (1) THEN 'one' WHEN (x) IS NOT DISTINCT FROM (NULL) THEN 'none' ELSE COALESCE(y, 'z') END)",
        ),
        (
            "SELECT GETDATE( )",
            "SELECT date_trunc('second', statement_timestamp() AT TIME ZONE 'UTC') AS \"getdate\"",
        ),
        ("SELECT sysdate", "SELECT (transaction_timestamp() AT TIME ZONE 'UTC') AS \"timestamp\""),
        (
            "SELECT DATEADD(mon, -1, DATE_TRUNC('month', sold_at)), dateadd('day', :n, '2026-01-31')",
            "SELECT lib.dateadd('mon', -1, lib.date_trunc('month', sold_at)) AS \"date_add\", lib.dateadd('day', :n, CAST('2026-01-31' AS timestamp)) AS \"date_add\"",
        ),
        (
            "SELECT DATEDIFF(week, a, :b)",
            "SELECT lib.datediff('week', a, CAST(:b AS timestamp)) AS \"date_diff\"",
        ),
        ("SELECT DATE_PART(w, a)", "SELECT date_part(lib.date_part_name('w'), a) AS \"pgdate_part\""),
        (
            "SELECT CONCAT(a, NVL(b, ''))",
            "SELECT (CAST(a AS text) || CAST(COALESCE(b, '') AS text)) AS \"concat\"",
        ),
        (
            "SELECT LEN(a), CHARINDEX('b', a)",
            "SELECT LENGTH(a) AS \"len\", POSITION(('b') IN (a)) AS \"charindex\"",
        ),
        ("SELECT CONVERT(DECIMAL(10, 2), NVL(a, 0))", "SELECT CAST(COALESCE(a, 0) AS DECIMAL(10, 2))"),
        ("SELECT CAST(a AS VARCHAR(MAX)), b::DATETIME", "SELECT CAST(a AS VARCHAR(65535)), b::TIMESTAMP"),
        (
            "SELECT LISTAGG(name, ', ') WITHIN GROUP (ORDER BY sold_at DESC) FROM t",
            "SELECT STRING_AGG(CAST(name AS text), ', ' ORDER BY sold_at DESC) AS \"listagg\" FROM t",
        ),
        (
            "SELECT listagg(DISTINCT a) within group (order by a desc)",
            "SELECT STRING_AGG(DISTINCT CAST(a AS text), '' ORDER BY CAST(a AS text) desc) AS \"listagg\"",
        ),
        ("SELECT APPROXIMATE COUNT(DISTINCT a)", "SELECT COUNT(DISTINCT a)"),
        (
            "SELECT SUM(DISTINCT a), Sum(b) OVER (ORDER BY c ROWS 1 PRECEDING), s.sum(c), sum FROM t",
            "SELECT lib.sum(DISTINCT a), lib.sum(b) OVER (ORDER BY c ROWS 1 PRECEDING), s.sum(c), sum FROM t",
        ),
        (
            "SELECT TRUNC(a), JSON_EXTRACT_PATH_TEXT(b, 'c')",
            "SELECT lib.trunc(a), lib.json_extract_path_text(b, 'c')",
        ),
        ("SELECT a FROM t MINUS SELECT b FROM u", "SELECT a FROM t EXCEPT SELECT b FROM u"),
        (
            "SELECT EXTRACT(dayofyear FROM a), EXTRACT(epoch FROM '2026-11-23'), AVG(DISTINCT a)",
            "SELECT lib.extract_part('dayofyear', a) AS \"date_part\", lib.extract_part('epoch', CAST('2026-11-23' AS timestamp)) AS \"date_part\", lib.avg(DISTINCT a)",
        ),
        (
            "SELECT RATIO_TO_REPORT(a) OVER (PARTITION BY b), LAG(a, 1) RESPECT NULLS OVER (ORDER BY b)",
            "SELECT (CAST(a AS double precision) / NULLIF(lib.sum(CAST(a AS double precision)) OVER (PARTITION BY b), 0)) AS \"ratio_to_report\", LAG(a, 1) OVER (ORDER BY b)",
        ),
        ("SELECT 'it\\'s NVL(', NVL(a, 'b')", "SELECT 'it\\'s NVL(', COALESCE(a, 'b')"),
        ("SELECT * FROM PG_TABLE_DEF, s.svv_tables", "SELECT * FROM lib.pg_table_def, s.svv_tables"),
        (
            "CREATE SCHEMA IF NOT EXISTS s AUTHORIZATION u QUOTA 5 GB",
            "CREATE SCHEMA IF NOT EXISTS s AUTHORIZATION u",
        ),
        ("ALTER SCHEMA s QUOTA UNLIMITED", "DO 'BEGIN END'"),
        (
            "ALTER SCHEMA s OWNER TO u; CREATE SCHEMA t QUOTA 5 GB",
            "ALTER SCHEMA s OWNER TO u; CREATE SCHEMA t",
        ),
        ("REFRESH MATERIALIZED VIEW v RESTRICT", "REFRESH MATERIALIZED VIEW v"),
        ("GRANT ROLE r TO u; REVOKE ROLE r FROM u", "GRANT r TO u; REVOKE r FROM u"),
        ("GRANT ROLE a, ROLE b TO ROLE c, ROLE role, u", "GRANT a, b TO c, role, u"),
        ("REVOKE ADMIN OPTION FOR ROLE a FROM ROLE \"b\"", "REVOKE ADMIN OPTION FOR a FROM \"b\""),
        (
            "GRANT SELECT (role), UPDATE (a, role) ON role, t TO ROLE r, GROUP g; REVOKE ALL ON t FROM ROLE r CASCADE",
            "GRANT SELECT (role), UPDATE (a, role) ON role, t TO r, GROUP g; REVOKE ALL ON t FROM r CASCADE",
        ),
        (
            "ALTER DEFAULT PRIVILEGES FOR ROLE o IN SCHEMA s GRANT SELECT ON TABLES TO ROLE r",
            "ALTER DEFAULT PRIVILEGES FOR ROLE o IN SCHEMA s GRANT SELECT ON TABLES TO r",
        ),
        ("CREATE USER u PASSWORD DISABLE", "CREATE USER u"),
    ] {
        assert_translated(redshift, postgres);
    }
}

#[test]
fn sql_that_is_not_specific_to_redshift_is_unchanged() {
    for sql in [
        "SELECT 'NVL(', \"sysdate\", x.sysdate, getdate -- NVL(",
        "SELECT decode('AP8=', 'base64'), x.nvl(1), top FROM t",
        "CREATE FUNCTION len(a text) RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "INSERT INTO trunc (convert, decode) VALUES (1, 2)",
        "SELECT a # b, c #> '{d}' FROM t",
        "MERGE INTO t USING s ON t.id = s.id WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT VALUES (s.id)",
        "MERGE INTO s.t USING s ON t.id = s.id WHEN NOT MATCHED THEN INSERT VALUES (1) WHEN MATCHED THEN UPDATE SET a = CASE WHEN b THEN 1 END",
        "DELETE FROM s.t USING u WHERE a = 1; DELETE FROM t; UPDATE t AS x SET a = 1",
        "SELECT datetime, super, pivot FROM t AS qualify",
        "SELECT * FROM t qualify WHERE a > 0",
        "SELECT exclude, ignore FROM t ORDER BY a NULLS LAST",
        "GRANT SELECT ON role TO u",
        "GRANT SELECT ON t, role TO role, u",
        "GRANT EXECUTE ON FUNCTION f(a INT, role INT) TO role WITH GRANT OPTION",
        "GRANT role TO u",
        "REVOKE ALL ON t FROM role CASCADE",
        "SET search_path TO mystore",
        "ALTER TABLE t ADD CONSTRAINT c UNIQUE (a)",
    ] {
        assert_translated(sql, sql);
    }
}

#[test]
fn top_becomes_a_limit_at_the_end_of_its_query() {
    for (redshift, postgres) in [
        ("SELECT TOP 5 * FROM t ORDER BY a -- last\n;", "SELECT * FROM t ORDER BY a LIMIT 5 -- last\n;"),
        ("SELECT DISTINCT TOP 5 a FROM t", "SELECT DISTINCT a FROM t LIMIT 5"),
        (
            "SELECT * FROM (SELECT TOP (:n) a FROM (SELECT 1)) WHERE b IN (1)",
            "SELECT * FROM (SELECT a FROM (SELECT 1) AS \"~s1\" LIMIT (:n)) AS \"~s2\" WHERE b IN (1)",
        ),
        (
            "SELECT TOP 1 a FROM t UNION ALL SELECT TOP 2 b FROM u",
            "(SELECT a FROM t LIMIT 1) UNION ALL (SELECT b FROM u LIMIT 2)",
        ),
        ("INSERT INTO u SELECT TOP 3 NVL(a, 0) FROM t", "INSERT INTO u SELECT COALESCE(a, 0) FROM t LIMIT 3"),
    ] {
        assert_translated(redshift, postgres);
    }
}

#[test]
fn qualify_becomes_a_condition_around_the_query() {
    for (redshift, postgres) in [
        (
            "SELECT a, NVL(b, 0) FROM t WHERE a > 0 QUALIFY ROW_NUMBER() OVER (PARTITION BY a ORDER BY b DESC) = 1 -- last\n;",
            "SELECT \"~q\".\"~1\" AS a, \"~q\".\"~2\" AS \"coalesce\" FROM (SELECT a, COALESCE(b, 0), (ROW_NUMBER() OVER (PARTITION BY a ORDER BY b DESC) = 1) FROM t WHERE a > 0) AS \"~q\" (\"~1\", \"~2\", \"~keep\") WHERE \"~q\".\"~keep\" -- last\n;",
        ),
        (
            "SELECT *, RANK() OVER (ORDER BY a) AS r FROM s.t x LEFT JOIN #w AS y ON x.a = LEFT(y.a, 1), (SELECT 1) z QUALIFY r < 3 AND x.r = y.r ORDER BY a DESC NULLS LAST, r LIMIT 2",
            "SELECT (\"~q\".\"~1\").*, (\"~q\".\"~2\").*, (\"~q\".\"~3\").*, \"~q\".\"~4\" AS r FROM (SELECT x, y, z, RANK() OVER (ORDER BY a) AS r, ((RANK() OVER (ORDER BY a) ) < 3 AND x.r = y.r), a FROM s.t x LEFT JOIN \"#w\" AS y ON x.a = LEFT(y.a, 1), (SELECT 1) z) AS \"~q\" (\"~1\", \"~2\", \"~3\", \"~4\", \"~keep\", \"~o1\") WHERE \"~q\".\"~keep\" ORDER BY \"~q\".\"~o1\" DESC NULLS LAST, r LIMIT 2",
        ),
        (
            "INSERT INTO u (SELECT DISTINCT TOP 3 t.a FROM t QUALIFY COUNT(*) OVER (PARTITION BY a) > 1 ORDER BY 1)",
            "INSERT INTO u (SELECT DISTINCT \"~q\".\"~1\" AS a FROM (SELECT t.a, (COUNT(*) OVER (PARTITION BY a) > 1) FROM t) AS \"~q\" (\"~1\", \"~keep\") WHERE \"~q\".\"~keep\" ORDER BY 1 LIMIT 3)",
        ),
        (
            "SELECT a FROM t UNION ALL SELECT b c FROM u QUALIFY MAX(b) OVER () = b ORDER BY 1",
            "SELECT a FROM t UNION ALL SELECT \"~q\".\"~1\" AS c FROM (SELECT b c, (MAX(b) OVER () = b) FROM u) AS \"~q\" (\"~1\", \"~keep\") WHERE \"~q\".\"~keep\" ORDER BY 1",
        ),
        (
            "SELECT a INTO #w FROM t QUALIFY MAX(b) OVER () = b",
            "SELECT \"~q\".\"~1\" AS a INTO TEMP \"#w\" FROM (SELECT a, (MAX(b) OVER () = b) FROM t) AS \"~q\" (\"~1\", \"~keep\") WHERE \"~q\".\"~keep\"",
        ),
    ] {
        assert_translated(redshift, postgres);
    }
}

#[test]
fn distribution_and_sort_keys_are_removed() {
    for (redshift, postgres) in [
        (
            "CREATE TEMP TABLE IF NOT EXISTS s.t (
                id BIGINT IDENTITY(1, 2) ENCODE az64 DISTKEY,
                encode VARCHAR(MAX) ENCODE ZSTD NOT NULL SORTKEY,
                at DATETIME DEFAULT SYSDATE COLLATE CASE_SENSITIVE,
                n DECIMAL(7,2), PRIMARY KEY (id)
            ) BACKUP NO DISTSTYLE KEY DISTKEY (id) COMPOUND SORTKEY (id, n);
            CREATE TABLE u DISTSTYLE ALL SORTKEY AUTO ENCODE AUTO AS SELECT distkey, encode FROM t",
            "CREATE TEMP TABLE IF NOT EXISTS s.t (
                id BIGINT GENERATED ALWAYS AS IDENTITY (START WITH 1 INCREMENT BY 2) ,
                encode VARCHAR(65535) NOT NULL CHECK (CASE WHEN octet_length(encode) > 65535 THEN lib.too_long(65535) ELSE true END) ,
                at TIMESTAMP DEFAULT (transaction_timestamp() AT TIME ZONE 'UTC') ,
                n DECIMAL(7,2), PRIMARY KEY (id)
            ) ;
            CREATE TABLE u AS SELECT distkey, encode FROM t",
        ),
        (
            "CREATE TABLE t (a INT GENERATED BY DEFAULT AS IDENTITY(0, 1), b VARBYTE(16))",
            "CREATE TABLE t (a INT GENERATED BY DEFAULT AS IDENTITY (START WITH 0 INCREMENT BY 1 MINVALUE 0), b BYTEA)",
        ),
        (
            "CREATE TABLE t (a INT IDENTITY, b BIGINT IDENTITY NOT NULL)",
            "CREATE TABLE t (a INT GENERATED ALWAYS AS IDENTITY (START WITH 1 INCREMENT BY 1), b BIGINT GENERATED ALWAYS AS IDENTITY (START WITH 1 INCREMENT BY 1) NOT NULL)",
        ),
        (
            "CREATE TABLE t (a, b) INTERLEAVED SORTKEY (a) AS SELECT 1, 2",
            "CREATE TABLE t (a, b) AS SELECT 1, 2",
        ),
        (
            "CREATE MATERIALIZED VIEW v BACKUP NO AUTO REFRESH YES AS SELECT 1",
            "CREATE MATERIALIZED VIEW v AS SELECT 1",
        ),
        (
            "CREATE VIEW v AS SELECT NVL(a, 0) FROM t WITH NO SCHEMA BINDING",
            "CREATE VIEW v AS SELECT COALESCE(a, 0) FROM t",
        ),
        ("ALTER TABLE t ALTER SORTKEY (a, b)", "DO 'BEGIN END'"),
        ("ALTER TABLE s.t ALTER COLUMN a ENCODE zstd", "DO 'BEGIN END'"),
        (
            "ALTER TABLE t ADD COLUMN a VARCHAR(MAX) ENCODE lzo DEFAULT ''",
            "ALTER TABLE t ADD COLUMN a VARCHAR(65535) DEFAULT '' CHECK (CASE WHEN octet_length(a) > 65535 THEN lib.too_long(65535) ELSE true END)",
        ),
        ("VACUUM SORT ONLY s.t TO 99 PERCENT BOOST", "VACUUM s.t"),
        ("VACUUM FULL", "VACUUM"),
        ("VACUUM REINDEX t;", "VACUUM t;"),
        ("ANALYZE t (a, b)", "ANALYZE t (a, b)"),
        ("ANALYZE VERBOSE t PREDICATE COLUMNS", "ANALYZE VERBOSE t"),
        ("SET query_group TO 'elt'", "SET redshift.query_group TO 'elt'"),
        (
            "set local enable_result_cache_for_session = off",
            "set local redshift.enable_result_cache_for_session = off",
        ),
        ("DELETE t WHERE a = 1", "DELETE FROM t WHERE a = 1"),
    ] {
        assert_translated(redshift, postgres);
    }
}

#[test]
fn character_columns_count_bytes() {
    for (redshift, postgres) in [
        (
            "CREATE TABLE t (a VARCHAR(5), b TEXT, c VARCHAR DEFAULT 'x' NOT NULL, \"D\" CHARACTER VARYING(7))",
            "CREATE TABLE t (a VARCHAR(5) CHECK (CASE WHEN octet_length(a) > 5 THEN lib.too_long(5) ELSE true END), b VARCHAR(256) CHECK (CASE WHEN octet_length(b) > 256 THEN lib.too_long(256) ELSE true END), c VARCHAR(256) DEFAULT 'x' NOT NULL CHECK (CASE WHEN octet_length(c) > 256 THEN lib.too_long(256) ELSE true END), \"d\" VARCHAR(7) CHECK (CASE WHEN octet_length(\"d\") > 7 THEN lib.too_long(7) ELSE true END))",
        ),
        (
            "CREATE TABLE t (a CHAR, b BPCHAR, c NCHAR(MAX), d INT)",
            "CREATE TABLE t (a CHAR(1) CHECK (CASE WHEN octet_length(a::text) > length(a::text) THEN lib.not_ascii(a) ELSE true END), b CHAR(256) CHECK (CASE WHEN octet_length(b::text) > length(b::text) THEN lib.not_ascii(b) ELSE true END), c CHAR(4096) CHECK (CASE WHEN octet_length(c::text) > length(c::text) THEN lib.not_ascii(c) ELSE true END), d INT)",
        ),
        (
            "CREATE TABLE t (LIKE s INCLUDING DEFAULTS)",
            "CREATE TABLE t (LIKE s INCLUDING DEFAULTS INCLUDING CONSTRAINTS)",
        ),
        (
            "ALTER TABLE s.t ALTER COLUMN a TYPE VARCHAR(20)",
            "DO 'BEGIN PERFORM lib.resize(''s.t'', ''a'', 20); END'",
        ),
        (
            "CREATE PROCEDURE p() AS $$ BEGIN EXECUTE 'CREATE TEMP TABLE ' || t || ' (a VARCHAR(' || n || '))'; END $$ LANGUAGE plpgsql",
            "CREATE PROCEDURE p() AS $$ BEGIN EXECUTE 'CREATE TEMP TABLE ' || t || ' (a VARCHAR(' || n || ') CHECK (CASE WHEN octet_length(a) > ' || n || ' THEN lib.too_long(' || n || ') ELSE true END))' ; END $$ LANGUAGE plpgsql",
        ),
    ] {
        assert_translated(redshift, postgres);
    }
}

#[test]
fn a_procedure_is_found_by_its_input_parameters() {
    for (redshift, postgres) in [
        (
            "DROP PROCEDURE IF EXISTS s.p(a IN NVARCHAR(9), OUT INT), q()",
            "DO 'BEGIN EXECUTE ''DROP PROCEDURE IF EXISTS'' || '' s.p('' || lib.signature(''s.p'', ARRAY[''a  VARCHAR(9)'']::text[]) || '')'' || '','' || '' q('' || lib.signature(''q'', ARRAY[]::text[]) || '')'' || ''''; END'",
        ),
        (
            "GRANT EXECUTE ON PROCEDURE p(DOUBLE PRECISION) TO ROLE r, u; SELECT 1",
            "DO 'BEGIN EXECUTE ''GRANT EXECUTE ON PROCEDURE'' || '' p('' || lib.signature(''p'', ARRAY[''DOUBLE PRECISION'']::text[]) || '')'' || '' TO r, u''; END'; SELECT 1",
        ),
        ("DROP PROCEDURE p", "DROP PROCEDURE p"),
    ] {
        assert_translated(redshift, postgres);
    }
}

#[test]
fn sql_that_redshift_rejects_is_rejected() {
    for (sql, error) in [
        ("CREATE TABLE t (a VARCHAR(70000))", "length for type character varying cannot exceed 65535"),
        (
            "ALTER TABLE t ALTER COLUMN a TYPE VARCHAR(65536)",
            "length for type character varying cannot exceed 65535",
        ),
        ("CREATE TABLE t (a CHAR(5000))", "length for type character cannot exceed 4096"),
        ("DELETE FROM target AS t USING source AS s WHERE t.id = s.id", "syntax error at or near \"AS\""),
        ("DELETE s.target t WHERE t.id = 1", "syntax error at or near \"t\""),
        (
            "MERGE INTO target AS t USING source s ON t.id = s.id WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT VALUES (1)",
            "syntax error at or near \"AS\"",
        ),
        ("MERGE INTO t USING s ON t.id = s.id WHEN MATCHED THEN DELETE", "syntax error at end of input"),
        (
            "MERGE INTO t USING s ON t.id = s.id WHEN MATCHED AND s.a THEN DELETE WHEN NOT MATCHED THEN INSERT VALUES (1)",
            "syntax error at or near \"AND\"",
        ),
        (
            "MERGE INTO t USING s ON t.id = s.id WHEN MATCHED THEN DO NOTHING WHEN NOT MATCHED THEN INSERT VALUES (1)",
            "syntax error at or near \"DO\"",
        ),
        ("INSERT INTO t (a) VALUES (1) ON CONFLICT DO NOTHING", "syntax error at or near \"ON\""),
        ("INSERT INTO t (a) VALUES (1) RETURNING a", "syntax error at or near \"RETURNING\""),
        ("WITH d AS (DELETE FROM t RETURNING a) SELECT a FROM d", "syntax error at or near \"RETURNING\""),
        ("CREATE TABLE s.numbered (id SERIAL)", "Column \"numbered.id\" has unsupported type \"serial\"."),
        ("CREATE TABLE listed (a INT[])", "Column \"listed.a\" has unsupported type \"integer[]\"."),
        (
            "ALTER TABLE s.t ADD COLUMN a VARCHAR(5)[] DEFAULT '{}'",
            "Column \"t.a\" has unsupported type \"character varying[]\".",
        ),
        ("CREATE TABLE t (a uuid)", "type \"uuid\" does not exist"),
        ("CREATE TABLE t (a INT CHECK (a > 0))", "CHECK constraints are not supported"),
        ("ALTER TABLE t ADD CONSTRAINT c CHECK (a > 0)", "CHECK constraints are not supported"),
        ("CREATE UNIQUE INDEX i ON t (a)", "SQL command \"CREATE UNIQUE INDEX\" not supported"),
        ("SELECT DISTINCT ON (a) a, b FROM t", "SELECT DISTINCT ON is not supported"),
        ("SELECT COUNT(*) FILTER (WHERE a > 0) FROM t", "syntax error at or near \"(\""),
        (
            "CREATE PROCEDURE p() AS $$ BEGIN INSERT INTO t VALUES (1) RETURNING a INTO b; END $$ LANGUAGE plpgsql",
            "RETURNING",
        ),
        (
            "CREATE PROCEDURE p(a INT DEFAULT 1) AS $$ BEGIN END $$ LANGUAGE plpgsql",
            "syntax error at or near \"DEFAULT\"",
        ),
        (
            "CREATE PROCEDURE p(a INT = 1) AS $$ BEGIN END $$ LANGUAGE plpgsql",
            "syntax error at or near \"=\"",
        ),
        (
            "CREATE PROCEDURE p() AS $$ BEGIN a := 1 / 0; EXCEPTION WHEN division_by_zero THEN a := 1; END $$ LANGUAGE plpgsql",
            "EXCEPTION WHEN division_by_zero is not supported",
        ),
    ] {
        let text = refused(sql);
        assert!(
            text.starts_with("ERROR: ")
                && text.contains(error)
                && text.contains(" [SQLSTATE ")
                && text.contains("Hint: "),
            "{sql}: {text}"
        );
    }
}

#[test]
fn names_with_a_hash_are_temporary_tables() {
    for (redshift, postgres) in [
        ("CREATE TABLE #Work (a INT) DISTKEY (a)", "CREATE TEMP TABLE \"#work\" (a INT)"),
        ("CREATE TEMP TABLE #w AS SELECT 1", "CREATE TEMP TABLE \"#w\" AS SELECT 1"),
        ("SELECT a INTO #w FROM t", "SELECT a INTO TEMP \"#w\" FROM t"),
        (
            "INSERT INTO #w SELECT #v.a # 1 FROM t, #v",
            "INSERT INTO \"#w\" SELECT \"#v\".a # 1 FROM t, \"#v\"",
        ),
        ("DROP TABLE IF EXISTS #w", "DROP TABLE IF EXISTS \"#w\""),
    ] {
        assert_translated(redshift, postgres);
    }
}

#[test]
fn procedures_are_translated_with_their_bodies() {
    assert_translated(
        "CREATE OR REPLACE PROCEDURE s.p(a IN INT, b NVARCHAR(MAX), n OUT INT, rs INOUT refcursor) NONATOMIC AS $body$
         DECLARE at DATETIME; label VARCHAR(MAX) := ';';
         BEGIN
            DELETE s.t;
            IF a > 0 THEN UPDATE t SET x = NVL(a, 'NVL('); END IF;
            FOR r IN SELECT TOP 2 * FROM t LOOP VACUUM FULL t; END LOOP;
         END $body$ LANGUAGE plpgsql SECURITY DEFINER",
        "CREATE OR REPLACE PROCEDURE s.p(a IN INT, b VARCHAR(65535), n OUT INT, rs INOUT refcursor) AS $body$
         DECLARE at TIMESTAMP; label VARCHAR(65535) := ';';
         BEGIN
            DELETE FROM s.t;
            IF a > 0 THEN UPDATE t SET x = COALESCE(a, 'NVL('); END IF;
            FOR r IN SELECT * FROM t LIMIT 2 LOOP VACUUM t; END LOOP;
         END $body$ LANGUAGE plpgsql SECURITY DEFINER",
    );
    // A CALL on Redshift omits OUT parameters, so they get a default unless a required parameter follows.
    assert_translated(
        "CREATE PROCEDURE p(a INT, OUT b INT, c OUT VARCHAR(10)) AS $$ BEGIN b := a; END $$ LANGUAGE plpgsql",
        "CREATE PROCEDURE p(a INT, INOUT b INT DEFAULT NULL, c INOUT VARCHAR(10) DEFAULT NULL) AS $$ BEGIN b := a; END $$ LANGUAGE plpgsql",
    );
    assert_eq!(translate("SELECT $$ NVL(a) $$"), "SELECT $$ NVL(a) $$");
}

/// Regression: only bodies in dollar quotes were translated, so PostgreSQL rejected other procedures when
/// they were called.
#[test]
fn bodies_in_single_quotes_are_translated() {
    assert_translated(
        "CREATE PROCEDURE p(a INT) AS 'BEGIN DELETE t WHERE s = NVL(x, ''it''''s''); END' LANGUAGE plpgsql",
        "CREATE PROCEDURE p(a INT) AS $body$BEGIN DELETE FROM t WHERE s = COALESCE(x, 'it''s'); END$body$ LANGUAGE plpgsql",
    );
    // A body that needs no translation keeps its quotes. Other strings are never changed.
    for sql in [
        "CREATE PROCEDURE p() AS 'BEGIN RAISE INFO ''done''; END' LANGUAGE plpgsql",
        "CREATE PROCEDURE p() AS $$ BEGIN NULL; END $$ LANGUAGE plpgsql SET search_path TO 'NVL(a, 1)'",
        "COMMENT ON PROCEDURE p() IS 'NVL(a, 1)'",
    ] {
        assert_eq!(translate(sql), sql);
    }
}

#[test]
fn an_exception_handler_commits_and_raises_again() {
    let body = "BEGIN CASE WHEN a THEN INSERT INTO t VALUES (1); END CASE;
        EXCEPTION WHEN OTHERS THEN IF b THEN INSERT INTO log SELECT CASE WHEN c THEN 1 END; END IF; END;";
    let begun = "BEGIN PERFORM lib.handled(1); CASE WHEN a THEN INSERT INTO t VALUES (1); END CASE; PERFORM lib.handled(-1);
        EXCEPTION WHEN OTHERS THEN";
    let acts = "IF b THEN INSERT INTO log SELECT CASE WHEN c THEN 1 END; END IF;";
    let own = |word: &str| format!("IF lib.handled(0) = 0 THEN {word}; END IF;");
    let procedure =
        |kind: &str, body: &str| format!("CREATE PROCEDURE p() {kind} AS $$ {body} $$ LANGUAGE plpgsql");
    assert_translated(
        &procedure("", body),
        &procedure("", &format!("{begun} {} {acts} {} RAISE; END;", own("ROLLBACK"), own("COMMIT"))),
    );
    let thrown = body.replace("END IF; END;", "END IF; RAISE; END;");
    assert_translated(&procedure("SECURITY DEFINER", body), &procedure("SECURITY DEFINER", &thrown));
    assert_translated(&procedure("NONATOMIC", body), &procedure("", body));
    // A handler that only raises a message needs no transaction.
    let told = "BEGIN PERFORM 1; EXCEPTION WHEN OTHERS THEN RAISE INFO 'x'; END;";
    let begun = "BEGIN PERFORM lib.handled(1); PERFORM 1; PERFORM lib.handled(-1); EXCEPTION WHEN OTHERS THEN RAISE INFO 'x'; RAISE; END;";
    assert_translated(&procedure("", told), &procedure("", begun));
    let function = format!("CREATE FUNCTION f() RETURNS int AS $$ {told} $$ LANGUAGE plpgsql");
    assert_translated(&function, &function);
}

/// Regression: a block that was left before its end still counted as a block with a handler. A later handler
/// of the same call therefore lost its work.
#[test]
fn a_statement_that_leaves_a_block_with_a_handler_lowers_the_number_of_handlers() {
    let handler = "EXCEPTION WHEN OTHERS THEN RAISE INFO 'x'; END;";
    let begun = "PERFORM lib.handled(1);";
    let ended = "PERFORM lib.handled(-1);";
    let rethrown = "EXCEPTION WHEN OTHERS THEN RAISE INFO 'x'; RAISE; END;";
    for (redshift, postgres) in [
        (
            format!("BEGIN IF n = 0 THEN RETURN; END IF; PERFORM 1; {handler}"),
            format!("BEGIN {begun} IF n = 0 THEN {ended} RETURN; END IF; PERFORM 1; {ended} {rethrown}"),
        ),
        // A condition is evaluated once. The loop outside the block is not left.
        (
            format!("BEGIN LOOP BEGIN CONTINUE WHEN f(n) IS NULL; EXIT; {handler} END LOOP; RETURN; END;"),
            format!(
                "BEGIN LOOP BEGIN {begun} IF f(n) IS NULL THEN {ended} CONTINUE; END IF; {ended} EXIT; {ended} {rethrown} END LOOP; RETURN; END;"
            ),
        ),
        // A label selects the blocks that are left. A loop inside the block leaves none.
        (
            format!(
                "BEGIN <<a>> FOR i IN 1..2 LOOP BEGIN BEGIN EXIT A WHEN i = 2; WHILE n > 0 LOOP EXIT WHEN n = 1; END LOOP; RETURN; {handler} {handler} END LOOP a; {handler}"
            ),
            format!(
                "BEGIN {begun} <<a>> FOR i IN 1..2 LOOP BEGIN {begun} BEGIN {begun} IF i = 2 THEN PERFORM lib.handled(-2); EXIT A; END IF; WHILE n > 0 LOOP EXIT WHEN n = 1; END LOOP; PERFORM lib.handled(-3); RETURN; {ended} {rethrown} {ended} {rethrown} END LOOP a; {ended} {rethrown}"
            ),
        ),
        (
            format!("<<\"B\">> DECLARE n INT := CASE WHEN x THEN 1 END; BEGIN BEGIN EXIT b; {handler} END;"),
            format!(
                "<<\"b\">> DECLARE n INT := CASE WHEN x THEN 1 END; BEGIN BEGIN {begun} {ended} EXIT b; {ended} {rethrown} END;"
            ),
        ),
        // The handler itself no longer counts.
        (
            "BEGIN PERFORM 1; EXCEPTION WHEN OTHERS THEN RETURN; END;".to_owned(),
            format!("BEGIN {begun} PERFORM 1; {ended} EXCEPTION WHEN OTHERS THEN RETURN; RAISE; END;"),
        ),
    ] {
        let procedure = |body: &str| format!("CREATE PROCEDURE p() AS $$ {body} $$ LANGUAGE plpgsql");
        assert_translated(&procedure(&redshift), &procedure(&postgres));
    }
}

#[test]
fn sql_that_a_procedure_executes_is_translated() {
    for (redshift, postgres) in [
        (r"EXECUTE 'SELECT NVL(a, ''x\\y'')';", r"EXECUTE 'SELECT COALESCE(a, ''x\\y'')' ;"),
        (
            "v := 'SELECT NVL(a, 0)'; w := 'NVL(a, 0)'; EXECUTE v;",
            "v := 'SELECT COALESCE(a, 0)' ; w := 'NVL(a, 0)'; EXECUTE v;",
        ),
        (
            "EXECUTE 'DELETE ' || quote_ident(NVL(t, 'u')) || ' WHERE DATEDIFF(' || part || ', a, ''' || b || ''') > 1' USING c;",
            "EXECUTE 'DELETE FROM ' || quote_ident(COALESCE(t, 'u')) || ' WHERE lib.datediff(''' || part || ''', a, CAST(''' || b || ''' AS timestamp)) > 1' USING c;",
        ),
        (r"EXECUTE 'SELECT NVL(\001)';", r"EXECUTE 'SELECT NVL(\001)';"),
        ("GRANT EXECUTE ON FUNCTION p() TO 'NVL(a, b)';", "GRANT EXECUTE ON FUNCTION p() TO 'NVL(a, b)';"),
        ("PERFORM 'NVL(a, b)';", "PERFORM 'NVL(a, b)';"),
    ] {
        let procedure =
            |body: &str| format!("CREATE PROCEDURE p() AS $$ BEGIN {body} END $$ LANGUAGE plpgsql");
        assert_translated(&procedure(redshift), &procedure(postgres));
    }
}

#[test]
fn features_that_postgresql_lacks_are_rejected_by_name() {
    for (sql, feature) in [
        ("COPY t FROM 's3://bucket/key' IAM_ROLE default", "COPY from S3"),
        ("copy t from 'S3://bucket/key' credentials 'x'", "COPY from S3"),
        ("-- nightly\nUNLOAD ('SELECT 1') TO 's3://bucket/key' IAM_ROLE 'arn'", "UNLOAD"),
        ("CREATE EXTERNAL SCHEMA lake FROM DATA CATALOG DATABASE 'lake'", "CREATE EXTERNAL SCHEMA"),
        ("create external table lake.t (a int)", "Spectrum"),
        ("CREATE DATASHARE d", "datashare"),
        ("CREATE MODEL m FROM t", "Redshift ML"),
        ("CREATE TABLE t (a INT, doc SUPER)", "SUPER"),
        ("SELECT a::super FROM t", "SUPER"),
        ("SELECT JSON_PARSE('[1]')", "the function JSON_PARSE of the type SUPER exists"),
        ("SELECT a.x FROM a, b WHERE a.x = b.x(+)", "(+)"),
        ("ALTER TABLE t ADD COLUMN g GEOMETRY", "the type GEOMETRY exists"),
        ("SELECT ARRAY(1, 2)", "the function ARRAY of the type SUPER exists"),
        ("SELECT a FROM t START WITH b IS NULL CONNECT BY PRIOR a = b", "CONNECT BY exists"),
        ("SELECT a, COUNT(*) FROM t GROUP BY ALL ORDER BY 1", "GROUP BY ALL exists"),
        ("SELECT (SELECT a FROM t GROUP BY ALL)", "GROUP BY ALL exists"),
        ("ALTER TABLE t APPEND FROM s", "ALTER TABLE APPEND"),
        ("ANALYZE COMPRESSION t", "ANALYZE COMPRESSION"),
        ("MERGE INTO t USING s ON t.id = s.id REMOVE DUPLICATES", "REMOVE DUPLICATES"),
        ("SELECT * FROM t PIVOT (sum(a) FOR b IN (1))", "PIVOT exists"),
        ("SELECT * FROM t JOIN u USING (id) QUALIFY ROW_NUMBER() OVER (ORDER BY a) = 1", "QUALIFY"),
        ("SELECT * FROM generate_series(1, 2) g QUALIFY ROW_NUMBER() OVER (ORDER BY a) = 1", "QUALIFY"),
        ("SELECT DISTINCT a FROM t QUALIFY ROW_NUMBER() OVER (ORDER BY a) = 1 ORDER BY b", "QUALIFY"),
        ("SELECT INTO v a FROM t QUALIFY ROW_NUMBER() OVER (ORDER BY a) = 1", "QUALIFY"),
        ("CREATE FUNCTION f(a int) RETURNS int STABLE AS $$ return 1 $$ LANGUAGE plpythonu", "plpythonu"),
        ("CREATE PROCEDURE p() AS $$ BEGIN UNLOAD ('x') TO 's3://b'; END $$ LANGUAGE plpgsql", "UNLOAD"),
    ] {
        let text = refused(sql);
        assert!(
            text.starts_with("ERROR: ") && text.contains(feature) && text.contains("Hint: "),
            "{sql}: {text}"
        );
    }
}

#[test]
fn a_function_behind_a_range_is_translated() {
    assert_translated(
        "CREATE PROCEDURE p(doc VARCHAR(99)) AS $$ BEGIN
            FOR i IN 0..JSON_ARRAY_LENGTH(doc)-1 LOOP a := i; END LOOP;
            FOR i IN REVERSE LEN(doc)..NVL(n, 1) LOOP a := t.len(i); END LOOP;
         END $$ LANGUAGE plpgsql",
        "CREATE PROCEDURE p(doc VARCHAR(99)) AS $$ BEGIN
            FOR i IN 0..lib.json_array_length(doc)-1 LOOP a := i; END LOOP;
            FOR i IN REVERSE LENGTH(doc)..COALESCE(n, 1) LOOP a := t.len(i); END LOOP;
         END $$ LANGUAGE plpgsql",
    );
}

#[test]
fn a_name_with_a_column_list_is_not_a_call() {
    for (redshift, postgres) in [
        (
            "WITH last_day (d) AS (SELECT 1), Decode(a, b, c) AS (SELECT LAST_DAY(d), 2, 3 FROM last_day) SELECT len(a) AS n FROM decode",
            "WITH \"last_day\" (d) AS (SELECT 1), \"decode\"(a, b, c) AS (SELECT lib.last_day(d), 2, 3 FROM last_day) SELECT LENGTH(a) AS n FROM decode",
        ),
        (
            "WITH RECURSIVE nvl(a) AS (SELECT 1 UNION ALL SELECT a + 1 FROM nvl) SELECT a FROM nvl",
            "WITH RECURSIVE \"nvl\"(a) AS (SELECT 1 UNION ALL SELECT a + 1 FROM nvl) SELECT a FROM nvl",
        ),
        (
            "SELECT t.len FROM (SELECT 1, 2) AS t(len, decode) JOIN s.u AS trunc (a) ON nvl(trunc.a, 1) = t.len, v len (b), generate_series(1, 2) round(c) WHERE (t.len = 1) AND nvl(b, 1) = 1",
            "SELECT t.len FROM (SELECT 1, 2) AS t(len, decode) JOIN s.u AS \"trunc\" (a) ON COALESCE(trunc.a, 1) = t.len, v \"len\" (b), generate_series(1, 2) \"round\"(c) WHERE (t.len = 1) AND COALESCE(b, 1) = 1",
        ),
        (
            "SELECT a FROM t JOIN u ON CASE WHEN b THEN 1 ELSE 2 END = 1 JOIN (SELECT 1) ON true JOIN v trunc (a) ON true",
            "SELECT a FROM t JOIN u ON CASE WHEN b THEN 1 ELSE 2 END = 1 JOIN (SELECT 1) AS \"~s1\" ON true JOIN v \"trunc\" (a) ON true",
        ),
        (
            "CREATE VIEW len (a) AS SELECT NVL(a, 1) FROM t; CREATE TABLE trunc (a INT)",
            "CREATE VIEW len (a) AS SELECT COALESCE(a, 1) FROM t; CREATE TABLE trunc (a INT)",
        ),
    ] {
        assert_translated(redshift, postgres);
    }
}

#[test]
fn a_subquery_in_from_has_an_alias() {
    for (redshift, postgres) in [
        ("SELECT a FROM (SELECT 1 AS a)", "SELECT a FROM (SELECT 1 AS a) AS \"~s1\""),
        (
            "SELECT SUM(n) FROM (SELECT n FROM (SELECT 3 AS n)) WHERE n IN (SELECT 3)",
            "SELECT lib.sum(n) FROM (SELECT n FROM (SELECT 3 AS n) AS \"~s1\") AS \"~s2\" WHERE n IN (SELECT 3)",
        ),
        (
            "SELECT * FROM t, (VALUES (1)), LATERAL (SELECT 1) x JOIN (WITH q AS (SELECT 7) SELECT * FROM q) ON 1 = (SELECT 1)",
            "SELECT * FROM t, (VALUES (1)) AS \"~s1\", LATERAL (SELECT 1) x JOIN (WITH q AS (SELECT 7) SELECT * FROM q) AS \"~s2\" ON 1 = (SELECT 1)",
        ),
        (
            "SELECT * FROM ((SELECT 1) UNION (SELECT 2)), ((SELECT 1) JOIN (SELECT 2) AS b ON true), ((SELECT 3)) -- last",
            "SELECT * FROM ((SELECT 1) UNION (SELECT 2)) AS \"~s1\", ((SELECT 1) AS \"~s2\" JOIN (SELECT 2) AS b ON true), ((SELECT 3)) AS \"~s3\" -- last",
        ),
        (
            "INSERT INTO u SELECT a, (SELECT 1), 2 FROM (SELECT 1 AS a) UNION SELECT * FROM (SELECT 2) ORDER BY 1; UPDATE t SET a = 1 FROM (SELECT 1) WHERE t.b = 1",
            "INSERT INTO u SELECT a, (SELECT 1), 2 FROM (SELECT 1 AS a) AS \"~s1\" UNION SELECT * FROM (SELECT 2) AS \"~s2\" ORDER BY 1; UPDATE t SET a = 1 FROM (SELECT 1) AS \"~s3\" WHERE t.b = 1",
        ),
        (
            "DELETE FROM t USING (SELECT 1) WHERE a IS DISTINCT FROM (SELECT 1)",
            "DELETE FROM t USING (SELECT 1) AS \"~s1\" WHERE a IS DISTINCT FROM (SELECT 1)",
        ),
        (
            "SELECT * FROM (SELECT 1 AS a) QUALIFY ROW_NUMBER() OVER (ORDER BY a) = 1",
            "SELECT (\"~q\".\"~1\").* FROM (SELECT \"~s1\", (ROW_NUMBER() OVER (ORDER BY a) = 1) FROM (SELECT 1 AS a) AS \"~s1\") AS \"~q\" (\"~1\", \"~keep\") WHERE \"~q\".\"~keep\"",
        ),
        (
            "CREATE PROCEDURE p() AS $$ BEGIN
                SELECT INTO n COUNT(*) FROM (SELECT 1);
                FOR r IN SELECT * FROM (SELECT 1) LOOP EXECUTE 'SELECT * FROM (SELECT 1)' USING (SELECT 1); END LOOP;
                v := 'SELECT * FROM (SELECT 1)'; v := v || ' t'; EXECUTE v;
                w := 'SELECT * FROM (SELECT ' || n || ')'; EXECUTE w || ' ;' INTO n;
                w := w || ' WHERE true'; x := 'SELECT SUM(n) FROM (' || w || ');'; EXECUTE x;
             END $$ LANGUAGE plpgsql",
            "CREATE PROCEDURE p() AS $$ BEGIN
                SELECT INTO n COUNT(*) FROM (SELECT 1) AS \"~s1\";
                FOR r IN SELECT * FROM (SELECT 1) AS \"~s2\" LOOP EXECUTE 'SELECT * FROM (SELECT 1) AS \"~s1\"' USING (SELECT 1); END LOOP;
                v := 'SELECT * FROM (SELECT 1)'; v := v || ' t'; EXECUTE v;
                w := 'SELECT * FROM (SELECT ' || n || ') AS \"~s1\"' ; EXECUTE w || ' ;' INTO n;
                w := w || ' WHERE true'; x := 'SELECT lib.sum(n) FROM (' || w || ') AS \"~s1\";' ; EXECUTE x;
             END $$ LANGUAGE plpgsql",
        ),
    ] {
        assert_translated(redshift, postgres);
    }
    for sql in [
        "SELECT * FROM (SELECT 1) t, (SELECT 2) AS u, (SELECT 3) \"v\" (a)",
        "SELECT SUBSTRING(a FROM (SELECT 1)), b IS NOT DISTINCT FROM (SELECT 2) FROM t WHERE c IN (SELECT 1) GROUP BY a, (SELECT 1)",
        "SELECT TRIM(BOTH FROM (SELECT 1)) FROM t JOIN u USING (a)",
        "INSERT INTO t (SELECT 1)",
        "CREATE TABLE t AS (SELECT 1)",
    ] {
        assert_translated(sql, sql);
    }
}

#[test]
fn a_column_without_an_alias_is_named_as_on_redshift() {
    for (redshift, postgres) in [
        (
            "SELECT LEN(a), (len(b))::int, CAST(LEN(c) AS double precision), -LEN(d), LEN(e) AS e, LEN(f) f, t.len(g)",
            "SELECT LENGTH(a) AS \"len\", (LENGTH(b))::int AS \"len\", CAST(LENGTH(c) AS double precision) AS \"len\", -LENGTH(d), LENGTH(e) AS e, LENGTH(f) f, t.len(g)",
        ),
        (
            "SELECT DISTINCT SYSDATE, CURRENT_DATE FROM t WHERE a > SYSDATE",
            "SELECT DISTINCT (transaction_timestamp() AT TIME ZONE 'UTC') AS \"timestamp\", CURRENT_DATE AS \"date\" FROM t WHERE a > (transaction_timestamp() AT TIME ZONE 'UTC')",
        ),
        (
            "SELECT TOP 1 EXTRACT(day FROM a), LISTAGG(a, ',') WITHIN GROUP (ORDER BY a) FROM t",
            "SELECT lib.extract_part('day', a) AS \"date_part\", STRING_AGG(CAST(a AS text), ',' ORDER BY a) AS \"listagg\" FROM t LIMIT 1",
        ),
        (
            "SELECT MEDIAN(a) OVER (PARTITION BY b), CASE WHEN a THEN 1 ELSE CASE WHEN b THEN 2 ELSE LEN(c) END END, CASE WHEN a THEN LEN(b) END",
            "SELECT lib.percentile_over(0.5, a) OVER (PARTITION BY b) AS \"median\", CASE WHEN a THEN 1 ELSE CASE WHEN b THEN 2 ELSE LENGTH(c) END END AS \"len\", CASE WHEN a THEN LENGTH(b) END",
        ),
        (
            "SELECT NVL(LEN(a), 1), NVL2(a, 1, LEN(b)), CONVERT(INT, LEN(c)) FROM (SELECT LEN(a) FROM t) q",
            "SELECT COALESCE(LENGTH(a), 1), (CASE WHEN (a) IS NOT NULL THEN 1 ELSE LENGTH(b) END) AS \"len\", CAST(LENGTH(c) AS INT) AS \"len\" FROM (SELECT LENGTH(a) AS \"len\" FROM t) q",
        ),
        (
            "SELECT LEN(a) INTO n FROM t; SELECT INTO n LEN(a) FROM t; SELECT LEN(a) b UNION SELECT LEN(b)",
            "SELECT LENGTH(a) AS \"len\" INTO n FROM t; SELECT INTO n LENGTH(a) FROM t; SELECT LENGTH(a) b UNION SELECT LENGTH(b) AS \"len\"",
        ),
        (
            "SELECT LEN(a), b FROM t QUALIFY ROW_NUMBER() OVER (ORDER BY b) = 1",
            "SELECT \"~q\".\"~1\" AS \"len\", \"~q\".\"~2\" AS b FROM (SELECT LENGTH(a) AS \"len\", b, (ROW_NUMBER() OVER (ORDER BY b) = 1) FROM t) AS \"~q\" (\"~1\", \"~2\", \"~keep\") WHERE \"~q\".\"~keep\"",
        ),
    ] {
        assert_translated(redshift, postgres);
    }
}

#[test]
fn a_body_gets_a_tag_that_it_does_not_contain() {
    assert_translated(
        "CREATE PROCEDURE p() AS $body$ BEGIN EXECUTE 'CREATE FUNCTION f() RETURNS int STABLE AS ''SELECT NVL(1, 2)'' LANGUAGE sql'; END $body$ LANGUAGE plpgsql",
        "CREATE PROCEDURE p() AS $body1$ BEGIN EXECUTE 'CREATE FUNCTION f() RETURNS int STABLE AS $body$SELECT COALESCE(1, 2)$body$ LANGUAGE sql' ; END $body1$ LANGUAGE plpgsql",
    );
}

#[test]
fn a_body_in_single_quotes_is_read_with_its_escapes() {
    for (redshift, postgres) in [
        (
            r"CREATE PROCEDURE p() AS 'BEGIN x := REGEXP_REPLACE(a, \'\\d\', NVL(b, c)); END' LANGUAGE plpgsql",
            r"CREATE PROCEDURE p() AS $body$BEGIN x := lib.regexp_replace(a, '\d', COALESCE(b, c)); END$body$ LANGUAGE plpgsql",
        ),
        (
            r"CREATE PROCEDURE p() AS 'BEGIN x := NVL(b, c);\r\n y := \'\d\b\f\'; END' LANGUAGE plpgsql",
            "CREATE PROCEDURE p() AS $body$BEGIN x := COALESCE(b, c);\r\n y := 'd\u{8}\u{c}'; END$body$ LANGUAGE plpgsql",
        ),
    ] {
        assert_translated(redshift, postgres);
    }
    let coded = r"CREATE PROCEDURE p() AS 'BEGIN x := NVL(b, \'\x41\'); END' LANGUAGE plpgsql";
    assert_eq!(translate(coded), coded);
}

#[test]
fn a_decimal_without_a_precision_has_no_decimals() {
    for (redshift, postgres) in [
        (
            "SELECT CAST(a AS DECIMAL), CONVERT(numeric, b), c::dec, NUMERIC '1.6', d::DECIMAL(5, 1), ROUND(1.5)",
            "SELECT CAST(a AS DECIMAL(18, 0)), CAST(b AS numeric(18, 0)), c::dec(18, 0), NUMERIC(18, 0) '1.6', d::DECIMAL(5, 1), lib.round(1.5)",
        ),
        (
            "CREATE TABLE t (a DECIMAL, b NUMERIC(5) NOT NULL, c DEC DEFAULT 1.5); ALTER TABLE t ADD COLUMN d NUMERIC",
            "CREATE TABLE t (a DECIMAL(18, 0), b NUMERIC(5) NOT NULL, c DEC(18, 0) DEFAULT 1.5); ALTER TABLE t ADD COLUMN d NUMERIC(18, 0)",
        ),
        (
            "CREATE TABLE t AS SELECT a::decimal AS a FROM u",
            "CREATE TABLE t AS SELECT a::decimal(18, 0) AS a FROM u",
        ),
        (
            "CREATE PROCEDURE p() AS $$ DECLARE a DECIMAL := 12.75; b NUMERIC(10, 2); BEGIN a := a::numeric; END $$ LANGUAGE plpgsql",
            "CREATE PROCEDURE p() AS $$ DECLARE a DECIMAL(18, 0) := 12.75; b NUMERIC(10, 2); BEGIN a := a::numeric(18, 0); END $$ LANGUAGE plpgsql",
        ),
        ("SELECT decimal, t.numeric FROM t", "SELECT decimal, t.numeric FROM t"),
    ] {
        assert_translated(redshift, postgres);
    }
}

#[test]
fn quoted_names_are_folded_unless_the_session_keeps_their_case() {
    for (redshift, postgres) in [
        (
            "SELECT 1 AS \"Total\", 'A \"B\"' AS \"É \"\"X\"\"\" FROM \"S\".\"T\" -- \"C\"",
            "SELECT 1 AS \"total\", 'A \"B\"' AS \"É \"\"x\"\"\" FROM \"s\".\"t\" -- \"C\"",
        ),
        (
            "SELECT LEN(a) \"Len\", user \"Who\" FROM (SELECT 1) \"Q\"",
            "SELECT LENGTH(a) \"len\", user \"who\" FROM (SELECT 1) \"q\"",
        ),
        (
            "CREATE PROCEDURE p() AS $$ BEGIN \"A\" := 1; EXECUTE 'DROP TABLE \"T\"'; END $$ LANGUAGE plpgsql",
            "CREATE PROCEDURE p() AS $$ BEGIN \"a\" := 1; EXECUTE 'DROP TABLE \"t\"' ; END $$ LANGUAGE plpgsql",
        ),
        // The names of users keep their case, but those of roles and groups do not.
        (
            "CREATE USER \"Eve\"; DROP USER IF EXISTS \"Eve\"; ALTER TABLE \"T\" OWNER TO \"Eve\"; CREATE SCHEMA \"S\" AUTHORIZATION \"Eve\"",
            "CREATE USER \"Eve\"; DROP USER IF EXISTS \"Eve\"; ALTER TABLE \"t\" OWNER TO \"Eve\"; CREATE SCHEMA \"s\" AUTHORIZATION \"Eve\"",
        ),
        (
            "GRANT SELECT ON \"T\" TO \"Eve\", GROUP \"G\"; REVOKE SELECT ON \"T\" FROM \"Eve\"; SELECT a FROM \"T\"",
            "GRANT SELECT ON \"t\" TO \"Eve\", GROUP \"g\"; REVOKE SELECT ON \"t\" FROM \"Eve\"; SELECT a FROM \"t\"",
        ),
    ] {
        assert_translated(redshift, postgres);
    }
    let kept = "CREATE TABLE \"MixedT\" (\"Id\" INT)";
    assert_eq!(super::translate(kept, "lib", Case::Kept).unwrap(), kept);
}

#[test]
fn a_name_that_postgresql_would_truncate_is_refused() {
    let (long, most) = ("t".repeat(64), "t".repeat(63));
    let accents = format!("{}é", "t".repeat(62));
    for sql in [
        format!("CREATE TABLE {long} (a INT)"),
        format!("SELECT 1 AS \"{long}\""),
        format!("SELECT 1 AS \"{accents}\""),
        format!("CREATE TABLE #{most} (a INT)"),
        format!("CREATE PROCEDURE p() AS $$ BEGIN DELETE FROM {long}; END $$ LANGUAGE plpgsql"),
        format!("CREATE PROCEDURE p() AS $$ BEGIN EXECUTE 'DELETE FROM {long}'; END $$ LANGUAGE plpgsql"),
    ] {
        let text = refused(&sql);
        assert!(text.contains("has 64 bytes") && text.contains("[SQLSTATE 42622]"), "{sql}: {text}");
    }
    let quotes = "\"\"".repeat(63);
    for sql in [
        format!("SELECT {most}, 1{long}, '{long}' FROM \"{quotes}\" -- {long}"),
        format!(
            "CREATE PROCEDURE p() AS $$ BEGIN EXECUTE 'DELETE FROM {most}' || a; END $$ LANGUAGE plpgsql"
        ),
    ] {
        assert_translated(&sql, &sql);
    }
}

#[test]
fn an_aggregate_over_ordered_rows_needs_a_frame() {
    for sql in [
        "SELECT SUM(a) OVER (PARTITION BY b ORDER BY c) FROM t",
        "SELECT NVL(first_value (a) IGNORE NULLS OVER (ORDER BY c), 0) FROM t",
        "SELECT a FROM t QUALIFY COUNT(*) OVER (ORDER BY a) = 1",
    ] {
        let error = "ERROR: Aggregate window functions with an ORDER BY clause require a frame clause";
        assert!(refused(sql).starts_with(error), "{sql}");
    }
    for sql in [
        "SELECT COUNT(a) OVER (PARTITION BY (SELECT 1 ORDER BY 1)), MAX(a) OVER (), s.sum(a) OVER (ORDER BY b) FROM t",
        "SELECT COUNT(a) OVER (ORDER BY b ROWS UNBOUNDED PRECEDING), RANK() OVER (ORDER BY b), LAG(a) OVER (ORDER BY b) FROM t",
    ] {
        assert_translated(sql, sql);
    }
}

proptest! {
    #[test]
    fn sql_that_both_dialects_share_is_unchanged(sql in "(SELECT|FROM|CREATE|VIEW|[a-m]{1,3}|[(),;.:'\"$ \n-]|[0-9]){0,40}") {
        // PostgreSQL 15 requires an alias for a subquery in FROM, so the translation inserts one.
        let squeezed: String = sql.split_whitespace().collect();
        prop_assume!(!(squeezed.contains("FROM") && squeezed.contains("(SELECT")));
        match super::translate(&sql, "lib", Case::Kept) {
            Ok(text) => prop_assert_eq!(text, sql.as_str()),
            Err(error) => prop_assert!(error.contains("PostgreSQL only 63"), "{}", error),
        }
    }

    #[test]
    fn any_body_is_accepted(
        body in r"(BEGIN |END |EXCEPTION |WHEN OTHERS THEN |IF |LOOP |CASE |EXECUTE |INTO |v :=|v |RAISE |INSERT |'NVL\(a, ''|'|\\|\|\||[(),; ä1a-])*"
    ) {
        let _ = super::translate(&format!("CREATE PROCEDURE p() AS $$ {body} $$ LANGUAGE plpgsql"), "lib", Case::Folded);
    }

    #[test]
    fn any_text_is_accepted(
        sql in "(CREATE |TABLE |TEMP |PROCEDURE |NVL|DECODE|DATEADD|LISTAGG|TOP |GETDATE|SYSDATE|IDENTITY|ENCODE |SORTKEY|DISTKEY|COMPOUND |ALTER |ADD |VACUUM |ANALYZE |SET |query_group|OUT |CAST|CONVERT|SUPER|MAX|AS |SELECT |FROM |QUALIFY |OVER |ORDER BY |INTO |JOIN |[(),;$#'. \nä1a-])*"
    ) {
        let _ = super::translate(&sql, "lib", Case::Folded);
    }

    /// Strings, quoted names and comments are never changed, except for the case of quoted names.
    #[test]
    fn quoted_text_is_unchanged(
        quoted in "('(NVL\\(|SYSDATE|TOP 1|;|#t|:a| |''){0,6}'|\"(LEN\\(|MINUS|;|\"\"){1,4}\"|/\\*(DECODE\\(|;|UNLOAD| ){0,4}\\*/|-- NVL\\(;\n)",
        around in "(NVL\\(|DATEADD\\(day, 1, |TOP 3 |CREATE TABLE |CAST\\(|VACUUM FULL |DELETE |)"
    ) {
        let sql = format!("{around}x {quoted} AS y) z");
        if let Ok(text) = super::translate(&sql, "lib", Case::Kept) {
            prop_assert!(text.contains(&quoted), "{}", text);
        }
        let folded = if quoted.starts_with('"') { quoted.to_ascii_lowercase() } else { quoted };
        if let Ok(text) = super::translate(&sql, "lib", Case::Folded) {
            prop_assert!(text.contains(&folded), "{}", text);
        }
    }
}
