CREATE SCHEMA IF NOT EXISTS mystore QUOTA 5 GB
--> ok

CREATE TABLE mystore.sales (
    sale_id BIGINT IDENTITY(1,1), customer_id INT NOT NULL, amount DECIMAL(12,2) DEFAULT 0.0, region VARCHAR(20) ENCODE BYTEDICT,
    sold_at TIMESTAMP WITHOUT TIME ZONE ENCODE RAW, is_new BOOLEAN DEFAULT TRUE, PRIMARY KEY (sale_id), UNIQUE (customer_id, sold_at)
) DISTKEY(customer_id) SORTKEY(sold_at)
--> ok

INSERT INTO mystore.sales (customer_id, amount, region, sold_at) VALUES
    (1, 10.5, 'north', '2026-01-01 10:00:00'), (1, 20, 'south', '2026-01-02'), (2, 30, 'north', '2026-02-01'), (3, 40.25, NULL, '2026-03-31 23:59:59')
--> ok

SELECT region, COUNT(*) FROM mystore.sales GROUP BY 1 ORDER BY 1 NULLS FIRST
--> NULL | 1 | north | 2 | south | 1

SELECT NVL(region, 'none') r, SUM(amount)::FLOAT8 FROM mystore.sales GROUP BY r ORDER BY r
--> none | 40.25 | north | 40.5 | south | 20

SELECT DATEADD(day, 1, sold_at), DATEDIFF(hour, sold_at, '2026-04-01') FROM mystore.sales ORDER BY 1 LIMIT 1
--> 2026-01-02 10:00:00 | 2150

SELECT DATE_TRUNC('month', sold_at), COUNT(1) FROM mystore.sales GROUP BY 1 ORDER BY 1 LIMIT 1
--> 2026-01-01 00:00:00 | 2

SELECT DATE_PART(month, sold_at), DATE_PART(dow, sold_at), EXTRACT(epoch FROM sold_at) FROM mystore.sales ORDER BY sale_id LIMIT 1
--> 1 | 4 | 1767261600

SELECT EXTRACT(year FROM sold_at), EXTRACT(dayofyear FROM sold_at), DATE_PART(quarter, sold_at), EXTRACT(second FROM TIMESTAMP '2026-01-01 00:00:07.9') FROM mystore.sales ORDER BY sale_id DESC LIMIT 1
--> 2026 | 90 | 1 | 7

SELECT LISTAGG(region, ',') WITHIN GROUP (ORDER BY region) FROM mystore.sales
--> north,north,south

SELECT MEDIAN(amount), PERCENTILE_CONT(0.5) WITHIN GROUP (ORDER BY amount), APPROXIMATE PERCENTILE_DISC(0.5) WITHIN GROUP (ORDER BY amount) FROM mystore.sales
--> 25 | 25 | 20.00

SELECT customer_id, RATIO_TO_REPORT(amount) OVER (PARTITION BY customer_id) FROM mystore.sales WHERE customer_id > 1 ORDER BY 1
--> 2 | 1 | 3 | 1

SELECT AVG(customer_id), AVG(amount)::DECIMAL(10,2), AVG(DISTINCT customer_id), AVG(amount::float) FROM mystore.sales WHERE customer_id < 3
--> 1 | 20.17 | 1 | 20.166666666666668

SELECT customer_id, AVG(customer_id) OVER (ORDER BY sale_id ROWS UNBOUNDED PRECEDING) FROM mystore.sales ORDER BY sale_id
--> 1 | 1 | 1 | 1 | 2 | 1 | 3 | 1

SELECT LAG(amount, 1) RESPECT NULLS OVER (ORDER BY sale_id) FROM mystore.sales ORDER BY sale_id LIMIT 2
--> NULL | 10.50

SELECT rn, customer_id FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY customer_id ORDER BY sold_at DESC) rn FROM mystore.sales) t WHERE rn = 2
--> 2 | 1

SELECT customer_id, SUM(amount) amt INTO #temp_sum FROM mystore.sales GROUP BY customer_id
&& SELECT * FROM #temp_sum ORDER BY 1 LIMIT 1
--> 1 | 30.50

CREATE TEMP TABLE stage (LIKE mystore.sales)
&& INSERT INTO stage SELECT * FROM mystore.sales
&& SELECT COUNT(*) FROM stage
--> 4

CREATE TEMPORARY TABLE gone DISTKEY(customer_id) SORTKEY(sold_at) AS SELECT * FROM mystore.sales
&& DELETE FROM mystore.sales USING gone WHERE mystore.sales.sale_id = gone.sale_id AND gone.customer_id = 3
&& SELECT COUNT(*) FROM mystore.sales
--> 3

UPDATE mystore.sales SET amount = s.amount + 1 FROM (SELECT sale_id, amount FROM mystore.sales) s WHERE sales.sale_id = s.sale_id AND s.sale_id = 1
--> ok

UPDATE mystore.sales SET region = DECODE(region, 'north', 'N', 'south', 'S') WHERE region IS NOT NULL
--> ok

SELECT LISTAGG(region) WITHIN GROUP (ORDER BY sale_id) FROM mystore.sales
--> NSN

CREATE TABLE mystore.dim (id INT PRIMARY KEY, name VARCHAR(MAX), valid_from TIMESTAMP DEFAULT GETDATE(), flag CHAR(1) DEFAULT 'Y', code BPCHAR(3), f FLOAT,
    r REAL, d DOUBLE PRECISION, n NUMERIC(38,10), t TIMETZ, ts TIMESTAMPTZ, v VARBYTE(100), i2 INT2, i8 INT8, nc NCHAR(3), tx TEXT, b BOOL)
--> ok

MERGE INTO mystore.dim USING (SELECT customer_id id, MAX(region) nm FROM mystore.sales GROUP BY 1) s ON mystore.dim.id = s.id
    WHEN MATCHED THEN UPDATE SET name = s.nm WHEN NOT MATCHED THEN INSERT (id, name) VALUES (s.id, s.nm)
--> ok

SELECT id, name, flag FROM mystore.dim ORDER BY 1
--> 1 | S | Y | 2 | N | Y

TRUNCATE mystore.dim
--> ok

SELECT CONVERT(VARCHAR, 12), CONVERT(integer, '7'), CAST('2026-01-01' AS DATE), '12'::INT, 12::VARCHAR(5)
--> 12 | 7 | 2026-01-01 | 12 | 12

SELECT STRTOL('ff', 16), TO_HEX(255), SHA2('a', 256) = SHA2('a', 0), LEN('abc'), OCTET_LENGTH('abc'), STRPOS('abc', 'b'), CHARINDEX('b', 'abc')
--> 255 | ff | true | 3 | 3 | 2 | 2

SELECT LEFT('abc', 2), RIGHT('abc', 2), SUBSTRING('abc', 2, 1), BTRIM('xax', 'x'), LPAD('a', 3, '0'), INITCAP('ab cd'), TRANSLATE('abc', 'a', 'x'), SPLIT_PART('a,b', ',', 2)
--> ab | bc | b | a | 00a | Ab Cd | xbc | b

SELECT REGEXP_REPLACE('abc123', '\\d+', 'x'), REGEXP_SUBSTR('abc123', '[0-9]+'), REGEXP_INSTR('abc123', '[0-9]'), REGEXP_COUNT('a1b2', '[0-9]')
--> abcx | 123 | 4 | 2

SELECT 'it\'s; fine', 'a\\b', E'tab\there' = 'tab	here'
--> it's; fine | a\b | true

SELECT DATEDIFF(seconds, '2026-01-01', '2026-01-02'), DATEADD(weeks, 1, '2026-01-01'), DATE_PART(epoch, '2026-01-01'), DATE_PART('year', '2026-01-01'), DATEADD(us, 1, '2026-01-01')
--> 86400 | 2026-01-08 00:00:00 | 1767225600 | 2026 | 2026-01-01 00:00:00.000001

SELECT '2026-01-10'::DATE - '2026-01-01'::DATE, '2026-01-01'::DATE + 5, DATE '2026-01-01' + INTERVAL '1 month', INTERVAL '3' DAY
--> 9 | 2026-01-06 | 2026-02-01 00:00:00 | 3 days

SELECT CONVERT_TIMEZONE('Europe/Berlin', '2026-01-01 00:00:00'), TRUNC(TIMESTAMP '2026-01-01 10:00'), LAST_DAY('2026-02-01'), ADD_MONTHS('2026-01-31', 1), MONTHS_BETWEEN('2026-03-01', '2026-01-01')
--> 2026-01-01 01:00:00 | 2026-01-01 | 2026-02-28 | 2026-02-28 00:00:00 | 2

SELECT JSON_EXTRACT_PATH_TEXT('{"a": {"b": 1}}', 'a', 'b'), JSON_EXTRACT_PATH_TEXT('{bad', 'a', TRUE), JSON_EXTRACT_ARRAY_ELEMENT_TEXT('[1, 2]', 0), JSON_ARRAY_LENGTH('no', TRUE), IS_VALID_JSON('{}')
--> 1 | NULL | 1 | NULL | true

SELECT FROM_VARBYTE(TO_VARBYTE('abc', 'utf8'), 'hex'), FROM_VARBYTE(FROM_HEX('616263'), 'utf8'), 1::BOOL, TRUE::INT, NVL(NULL::BOOL, FALSE)
--> 616263 | abc | true | 1 | false

SELECT REGEXP_REPLACE('the fox; a fox', 'FOX', 'quick fox', 1, 'i'), REGEXP_REPLACE('a1b2', '([a-z])(\\d)', '$2$1'), REGEXP_REPLACE('a-b-c', '-'), REGEXP_REPLACE('aaa', 'a', 'b', 2), REGEXP_REPLACE('a', 'a', NULL)
--> the quick fox; a quick fox | 1a2b | abc | abb | NULL

SELECT CONCAT('a', 1), CONCAT('a', NULL), STRTOL('0xf', 16), STRTOL('-110', 2), STRTOL('abcd1234', 16)
--> a1 | NULL | 15 | -6 | 2882343476

SELECT STRTOL('12', 2)
--> fails: The input 12 is not valid to be converted to base 2

SELECT DATE_TRUNC('month', DATE '2026-05-05'), DATE_TRUNC('qtr', '2026-05-05'), DATE_TRUNC('weeks', TIMESTAMP '2026-05-08 10:00'), DATE_TRUNC('day', TIMESTAMPTZ '2026-05-05 10:00+00')
--> 2026-05-01 00:00:00 | 2026-04-01 00:00:00 | 2026-05-04 00:00:00 | 2026-05-05 00:00:00+00

SELECT LAST_DAY(t), ADD_MONTHS(t, 1), MONTHS_BETWEEN(t, '2026-01-05'), CONVERT_TIMEZONE('Europe/Berlin', t), NEXT_DAY(t, 'Mo') FROM (SELECT TIMESTAMPTZ '2026-02-05 00:00+00' AS t) x
--> 2026-02-28 | 2026-03-05 00:00:00 | 1 | 2026-02-05 01:00:00 | 2026-02-09

SELECT a.customer_id FROM mystore.sales a, mystore.dim b WHERE a.customer_id = b.id (+)
--> refused: (+)

SELECT TOP 2 sale_id FROM mystore.sales ORDER BY sale_id
--> 1 | 2

SELECT 7/2, 1/2::float, NVL2(1, 2, 3), GREATEST(1, 2), NULLIF(1, 1), 5 % 2, DEXP(0), DLOG10(100), CEIL(1.2), ROUND(1.567, 2)
--> 3 | 0.5 | 2 | 2 | NULL | 1 | 1 | 2 | 2 | 1.57

SELECT region, SUM(amount) FROM mystore.sales GROUP BY ROLLUP(region) ORDER BY 1
--> N | 41.50 | S | 20.00 | NULL | 61.50

SELECT region FROM mystore.sales MINUS SELECT 'S'
--> N

WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3) SELECT * FROM n
--> 1 | 2 | 3

CREATE VIEW mystore.v AS SELECT * FROM mystore.sales WITH NO SCHEMA BINDING
--> ok

CREATE MATERIALIZED VIEW mystore.mv AUTO REFRESH YES AS SELECT region, SUM(amount) s FROM mystore.sales GROUP BY region
--> ok

REFRESH MATERIALIZED VIEW mystore.mv RESTRICT
--> ok

ANALYZE VERBOSE mystore.sales PREDICATE COLUMNS
--> ok

VACUUM SORT ONLY mystore.sales TO 100 PERCENT BOOST
--> ok

ALTER TABLE mystore.sales ADD COLUMN note VARCHAR(10) DEFAULT 'x' ENCODE ZSTD
--> ok

ALTER TABLE mystore.sales DROP COLUMN note CASCADE
--> ok

ALTER TABLE mystore.sales ALTER DISTSTYLE KEY DISTKEY customer_id
--> ok

ALTER TABLE mystore.sales ALTER COMPOUND SORTKEY (sold_at, customer_id)
--> ok

ALTER TABLE mystore.sales RENAME COLUMN is_new TO newness
--> ok

ALTER SCHEMA mystore QUOTA UNLIMITED
--> ok

GRANT SELECT ON ALL TABLES IN SCHEMA mystore TO PUBLIC
--> ok

GRANT SELECT ON mystore.sales TO ROLE pg_monitor, ROLE pg_signal_backend
--> ok

REVOKE SELECT ON mystore.sales FROM ROLE pg_monitor, ROLE pg_signal_backend
--> ok

ALTER DEFAULT PRIVILEGES IN SCHEMA mystore GRANT SELECT ON TABLES TO ROLE pg_monitor
--> ok

COMMENT ON TABLE mystore.sales IS 'sales'
--> ok

LOCK TABLE mystore.sales
&& INSERT INTO mystore.sales (customer_id) VALUES (9)
&& SELECT MAX(customer_id) FROM mystore.sales
--> 9

SET enable_case_sensitive_identifier TO true
--> ok

SET wlm_query_slot_count TO 3
--> ok

SELECT "column", type, "notnull" FROM pg_table_def WHERE schemaname = 'mystore' AND tablename = 'sales' ORDER BY 1 LIMIT 2
--> amount | numeric(12,2) | false | customer_id | integer | true

SELECT table_name FROM svv_tables WHERE table_schema = 'mystore' AND table_type = 'VIEW'
--> v

SELECT COUNT(*) FROM SVV_COLUMNS WHERE table_schema = 'mystore' AND table_name = 'sales'
--> 6

CREATE OR REPLACE PROCEDURE mystore.p(a IN INT, b INOUT INT, c OUT VARCHAR(20)) AS $$
DECLARE
    r RECORD; cnt INTEGER := 0; nm VARCHAR(MAX);
BEGIN
    FOR r IN SELECT customer_id FROM mystore.sales LOOP cnt := cnt + 1; END LOOP;
    SELECT INTO nm NVL(MAX(region), 'none') FROM mystore.sales;
    EXECUTE 'UPDATE mystore.sales SET amount = amount + ' || a;
    GET DIAGNOSTICS cnt := ROW_COUNT;
    RAISE INFO 'updated % rows', cnt;
    b := b + a; c := nm;
EXCEPTION WHEN OTHERS THEN
    RAISE NOTICE 'failed %', SQLERRM;
END;
$$ LANGUAGE plpgsql SECURITY DEFINER
--> ok

CALL mystore.p(1, 2)
--> 3 | S

CREATE OR REPLACE PROCEDURE mystore.p2() NONATOMIC AS $$ BEGIN
    TRUNCATE mystore.dim; INSERT INTO mystore.dim (id, name) VALUES (1, 'a'); COMMIT; INSERT INTO mystore.dim (id, name) VALUES (2, 'b'); ROLLBACK;
END; $$ LANGUAGE plpgsql
--> ok

CALL mystore.p2()
--> ok

SELECT id FROM mystore.dim
--> 1

CREATE PROCEDURE mystore.p3() LANGUAGE plpgsql AS $$ BEGIN DROP TABLE IF EXISTS #w; CREATE TABLE #w AS SELECT 1 AS a; INSERT INTO mystore.dim (id) SELECT a + 100 FROM #w; END; $$
--> ok

CALL mystore.p3()
--> ok

CREATE PROCEDURE mystore.p4(s VARCHAR) AS $$ BEGIN IF s = 'bad' THEN RAISE EXCEPTION 'no good: %', s; ELSIF s IS NULL THEN RETURN; ELSE PERFORM 1; END IF; END $$ LANGUAGE plpgsql
--> ok

CALL mystore.p4('bad')
--> fails: no good: bad

DROP PROCEDURE mystore.p4(VARCHAR)
--> ok

CREATE PROCEDURE mystore.p5(n IN DECIMAL, "a day" IN DATE, total OUT BIGINT, note OUT VARCHAR(20)) AS $$ BEGIN total := n; note := 'x'; END $$ LANGUAGE plpgsql
--> ok

GRANT EXECUTE ON PROCEDURE mystore.p5(DECIMAL(12, 2), DATE) TO PUBLIC
--> ok

GRANT EXECUTE ON PROCEDURE mystore.p5(DECIMAL(12, 2), DATE) TO ROLE pg_monitor
--> ok

ALTER PROCEDURE mystore.p5(n DECIMAL, "a day" IN DATE) RENAME TO "P six"
--> ok

DROP PROCEDURE mystore."P six"(BIGINT, DATE)
--> fails: does not exist

CREATE PROCEDURE mystore.drops() AS $$ BEGIN DROP PROCEDURE mystore."P six"(n IN DECIMAL, DATE, total OUT BIGINT, OUT VARCHAR(20)); END $$ LANGUAGE plpgsql
--> ok

CALL mystore.drops()
--> ok

DROP PROCEDURE IF EXISTS mystore."P six"(DECIMAL, DATE), mystore.drops()
--> ok

SELECT COUNT(*) FROM pg_proc WHERE proname IN ('p5', 'P six', 'drops')
--> 0

CREATE TABLE employee (firstname VARCHAR, lastname VARCHAR)
&& CREATE TABLE employee_error_log (message VARCHAR)
--> ok

CREATE OR REPLACE PROCEDURE update_employee_sp() AS $$
BEGIN
    INSERT INTO employee (firstname, lastname) VALUES ('Adam', 'Smith');
    EXECUTE 'select invalid';
EXCEPTION WHEN OTHERS THEN
    RAISE INFO 'An exception occurred.';
    INSERT INTO employee_error_log VALUES ('Error message: ' || SQLERRM);
END;
$$ LANGUAGE plpgsql
--> ok

CALL update_employee_sp()
--> fails: column "invalid" does not exist

SELECT message, (SELECT COUNT(*) FROM employee) FROM employee_error_log
--> Error message: column "invalid" does not exist | 0

CREATE OR REPLACE PROCEDURE update_all() AS $$
BEGIN
    INSERT INTO employee VALUES ('Eve', 'Jones');
    CALL update_employee_sp();
EXCEPTION WHEN OTHERS THEN
    INSERT INTO employee_error_log VALUES ('Outer: ' || SQLERRM);
END;
$$ LANGUAGE plpgsql
--> ok

CALL update_all()
--> fails: column "invalid" does not exist

SELECT LISTAGG(message, ' + ') WITHIN GROUP (ORDER BY message), (SELECT COUNT(*) FROM employee) FROM employee_error_log
--> Error message: column "invalid" does not exist + Outer: column "invalid" does not exist | 0

INSERT INTO employee VALUES ('Bob', 'Brown')
&& CALL update_employee_sp()
--> fails: column "invalid" does not exist

SELECT (SELECT COUNT(*) FROM employee), (SELECT COUNT(*) FROM employee_error_log)
--> 0 | 2

CREATE OR REPLACE PROCEDURE handles_nonatomic() NONATOMIC AS $$
BEGIN
    INSERT INTO nowhere VALUES (1);
EXCEPTION WHEN OTHERS THEN
    INSERT INTO employee_error_log VALUES ('handled');
END;
$$ LANGUAGE plpgsql
--> ok

CALL handles_nonatomic()
--> ok

CREATE OR REPLACE PROCEDURE as_its_owner() AS $$
BEGIN
    IF TRUE THEN INSERT INTO nowhere VALUES (1); END IF;
EXCEPTION WHEN OTHERS THEN
    INSERT INTO employee_error_log VALUES (CASE WHEN TRUE THEN 'lost' END);
END;
$$ LANGUAGE plpgsql SECURITY DEFINER
--> ok

CALL as_its_owner()
--> fails: relation "nowhere" does not exist

SELECT COUNT(*), MAX(message) FROM employee_error_log
--> 3 | handled

CREATE OR REPLACE PROCEDURE leaves_early(n INT) AS $$
DECLARE i INT := 0;
BEGIN
    FOR i IN 1..3 LOOP
        BEGIN
            CONTINUE WHEN i = n;
            IF n = 0 THEN RETURN; END IF;
            EXIT WHEN i = 2;
        EXCEPTION WHEN OTHERS THEN
            INSERT INTO employee_error_log VALUES ('never');
        END;
    END LOOP;
EXCEPTION WHEN OTHERS THEN
    INSERT INTO employee_error_log VALUES ('never');
END;
$$ LANGUAGE plpgsql
--> ok

CREATE OR REPLACE PROCEDURE leaves_early_and_fails(n INT) AS $$
BEGIN
    CALL leaves_early(n);
    CALL update_employee_sp();
END;
$$ LANGUAGE plpgsql
--> ok

CALL leaves_early_and_fails(0)
--> fails: column "invalid" does not exist

CALL leaves_early_and_fails(1)
--> fails: column "invalid" does not exist

SELECT COUNT(*), MAX(message) FROM employee_error_log
--> 5 | handled

CREATE PROCEDURE goes_on() NONATOMIC AS $$ BEGIN PERFORM 1; EXCEPTION CONTINUE_HANDLER WHEN OTHERS THEN NULL; END $$ LANGUAGE plpgsql
--> refused: CONTINUE_HANDLER

CREATE PROCEDURE dynamic(target IN VARCHAR(50), day IN VARCHAR(10), parts OUT VARCHAR(100)) AS $$
DECLARE
    stmt VARCHAR(MAX) := 'CREATE TEMP TABLE ' || target || ' (id BIGINT IDENTITY(1, 1), at DATETIME, note VARCHAR(MAX) ENCODE zstd) DISTSTYLE EVEN';
    r RECORD;
BEGIN
    EXECUTE stmt;
    stmt := 'INSERT INTO ' || quote_ident(target) || ' (at, note) SELECT DATEADD(day, 1, ''' || day || '''), NVL(NULL, ''it''''s'') FROM (SELECT 1 AS x';
    stmt := stmt || ' UNION ALL SELECT 1) y';
    EXECUTE stmt;
    parts := '';
    FOR r IN EXECUTE 'SELECT TOP 1 DECODE(id, 1, note, ' || '''none'') AS note, DATEDIFF(' || 'day' || ', ''2026-01-01'', at) AS days FROM ' || target LOOP
        parts := parts || r.note || r.days;
    END LOOP;
    EXECUTE $sql$ DELETE $sql$ || target || ' WHERE NVL(id, 0) > ' || LEN('x');
    EXECUTE 'SELECT ''' || replace(parts, '''', '') || ':'' || LISTAGG(id, '','') WITHIN GROUP (ORDER BY id) FROM ' || target INTO parts;
END
$$ LANGUAGE plpgsql
--> ok

CALL dynamic('dyn', '2026-01-02')
--> its2:1

CREATE PROCEDURE loads() AS $$ BEGIN EXECUTE 'COPY mystore.sales FROM ''s3://b/k'' IAM_ROLE DEFAULT'; END $$ LANGUAGE plpgsql
--> refused: COPY from S3

CREATE PROCEDURE late(stmt VARCHAR) AS $$ BEGIN EXECUTE stmt; END $$ LANGUAGE plpgsql
--> ok

CALL late('SELECT NVL(1, 2)')
--> refused: the function NVL

CREATE FUNCTION mystore.f_add(INT, INT) RETURNS INT STABLE AS $$ SELECT $1 + $2 $$ LANGUAGE sql
--> ok

SELECT mystore.f_add(1, 2) -- NVL(
--> 3

DECLARE c CURSOR FOR SELECT 1 UNION SELECT 2 ORDER BY 1
&& FETCH 1 FROM c
--> 1

CREATE TABLE IF NOT EXISTS mystore.x AS (SELECT 1 AS a, 'b'::VARCHAR AS b)
--> ok

CREATE TABLE mystore.z (a INT GENERATED BY DEFAULT AS IDENTITY(1,1), b INT) DISTSTYLE AUTO SORTKEY AUTO
--> ok

INSERT INTO mystore.z (b) VALUES (1);
--> ok

SELECT a, b, DENSE_RANK() OVER (ORDER BY b), NTILE(2) OVER (ORDER BY b) FROM mystore.z WHERE b = 1 /* DATEADD(day,1,x) */
--> 1 | 1 | 1 | 1

DELETE mystore.dim
--> ok

CREATE TABLE store_sales (ss_sold_date DATE, ss_sold_time TIME, ss_item TEXT, ss_sales_price FLOAT)
--> ok

INSERT INTO store_sales VALUES ('2022-01-01', '09:00:00', 'Product 1', 100.0), ('2022-01-01', '11:00:00', 'Product 2', 500.0),
    ('2022-01-01', '15:00:00', 'Product 3', 20.0), ('2022-01-01', '17:00:00', 'Product 4', 1000.0), ('2022-01-01', '18:00:00', 'Product 5', 30.0),
    ('2022-01-02', '10:00:00', 'Product 6', 5000.0), ('2022-01-02', '16:00:00', 'Product 7', 5.0)
--> ok

SELECT * FROM store_sales ss WHERE ss_sold_time > TIME '12:00:00' QUALIFY ROW_NUMBER() OVER (PARTITION BY ss_sold_date ORDER BY ss_sales_price DESC) <= 2
--> 2022-01-01 | 17:00:00 | Product 4 | 1000 | 2022-01-01 | 18:00:00 | Product 5 | 30 | 2022-01-02 | 16:00:00 | Product 7 | 5

SELECT * FROM store_sales ss QUALIFY LAST_VALUE(ss_item) OVER (PARTITION BY ss_sold_date ORDER BY ss_sold_time ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) = ss_item
--> 2022-01-01 | 18:00:00 | Product 5 | 30 | 2022-01-02 | 16:00:00 | Product 7 | 5

SELECT ss_item, ROW_NUMBER() OVER (PARTITION BY ss_sold_date ORDER BY ss_sales_price DESC) AS rn FROM store_sales QUALIFY rn = 1 ORDER BY ss_sales_price DESC
--> Product 6 | 1 | Product 4 | 1

SELECT ss_sold_date, SUM(ss_sales_price) s, RANK() OVER (ORDER BY SUM(ss_sales_price) DESC) FROM store_sales x GROUP BY 1 HAVING COUNT(*) > 1 QUALIFY RANK() OVER (ORDER BY SUM(ss_sales_price) DESC) = 1
--> 2022-01-02 | 5005 | 1

SELECT a.*, b.ss_item FROM store_sales a LEFT JOIN (SELECT * FROM store_sales QUALIFY ROW_NUMBER() OVER (ORDER BY ss_sales_price DESC) = 1) b
    ON a.ss_item = b.ss_item QUALIFY ROW_NUMBER() OVER (ORDER BY a.ss_item DESC) <= 2 ORDER BY a.ss_item
--> 2022-01-02 | 10:00:00 | Product 6 | 5000 | Product 6 | 2022-01-02 | 16:00:00 | Product 7 | 5 | NULL

WITH ranked AS (SELECT ss_item, NTILE(2) OVER (ORDER BY ss_sales_price) AS half FROM store_sales QUALIFY half = 2)
    SELECT LISTAGG(ss_item, ',') WITHIN GROUP (ORDER BY ss_item) FROM ranked
--> Product 2,Product 4,Product 6

CREATE TEMP TABLE last_of_day AS SELECT * FROM store_sales ss QUALIFY ROW_NUMBER() OVER (PARTITION BY ss_sold_date ORDER BY ss_sold_time DESC) = 1
&& MERGE INTO store_sales USING (SELECT * FROM last_of_day l QUALIFY ROW_NUMBER() OVER (ORDER BY ss_item) = 1) s ON store_sales.ss_item = s.ss_item
    WHEN MATCHED THEN UPDATE SET ss_sales_price = 0 WHEN NOT MATCHED THEN INSERT VALUES (s.ss_sold_date, s.ss_sold_time, s.ss_item, s.ss_sales_price)
&& SELECT TOP 1 ss_item, ss_sales_price FROM store_sales ss QUALIFY MIN(ss_sales_price) OVER () = ss_sales_price
--> Product 5 | 0

CREATE PROCEDURE dedupe(kept OUT INT) AS $$ DECLARE r RECORD; latest VARCHAR(20); BEGIN
    DELETE FROM store_sales WHERE ss_item NOT IN (SELECT ss_item FROM store_sales ss QUALIFY ROW_NUMBER() OVER (PARTITION BY ss_sold_date ORDER BY ss_sold_time DESC) = 1);
    kept := 0;
    FOR r IN SELECT * FROM store_sales ss QUALIFY COUNT(*) OVER () > 1 LOOP kept := kept + 1; END LOOP;
    SELECT ss_item INTO latest FROM store_sales ss QUALIFY ROW_NUMBER() OVER (ORDER BY ss_sold_date DESC) = 1;
    IF latest <> 'Product 7' THEN RAISE EXCEPTION '%', latest; END IF;
END $$ LANGUAGE plpgsql
--> ok

CALL dedupe()
--> 2

CREATE VIEW lasts AS SELECT * FROM store_sales ss QUALIFY ROW_NUMBER() OVER (PARTITION BY ss_sold_date ORDER BY ss_sold_time DESC) = 1 WITH NO SCHEMA BINDING
--> ok

SELECT COUNT(*) FROM lasts
--> 2

SELECT customer_id, LISTAGG(region, '/') WITHIN GROUP (ORDER BY sold_at DESC) OVER (PARTITION BY customer_id) FROM mystore.sales ORDER BY sale_id
--> 1 | S/N | 1 | S/N | 2 | N | 9 | NULL

SELECT LISTAGG(DISTINCT region) WITHIN GROUP (ORDER BY region) OVER (PARTITION BY customer_id) FROM mystore.sales
--> refused: LISTAGG (DISTINCT …)

SELECT customer_id, MEDIAN(amount) OVER (PARTITION BY customer_id), PERCENTILE_CONT(0.25) WITHIN GROUP (ORDER BY amount DESC) OVER () FROM mystore.sales ORDER BY sale_id
--> 1 | 16.75 | 23.5 | 1 | 16.75 | 23.5 | 2 | 31 | 23.5 | 9 | 1 | 23.5

SELECT PERCENTILE_DISC(0.5) WITHIN GROUP (ORDER BY amount) OVER (PARTITION BY customer_id) FROM mystore.sales
--> refused: PERCENTILE_DISC

SELECT x, LAST_VALUE(y IGNORE NULLS) OVER (ORDER BY x ROWS UNBOUNDED PRECEDING), FIRST_VALUE(y) IGNORE NULLS OVER (ORDER BY x ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING), LAST_VALUE(y) OVER (ORDER BY x ROWS UNBOUNDED PRECEDING)
    FROM (SELECT 1 AS x, NULL AS y UNION ALL SELECT 2, 'a' UNION ALL SELECT 3, NULL UNION ALL SELECT 4, 'b') v ORDER BY x
--> 1 | NULL | a | NULL | 2 | a | a | a | 3 | a | b | NULL | 4 | b | b | b

SELECT LAG(amount IGNORE NULLS) OVER (ORDER BY sold_at) FROM mystore.sales
--> refused: IGNORE NULLS

SELECT LEAD(amount) IGNORE NULLS OVER (ORDER BY sale_id) FROM mystore.sales
--> refused: IGNORE NULLS

SELECT * EXCLUDE (sale_id) FROM mystore.sales
--> refused: SELECT * EXCLUDE

MERGE INTO mystore.dim USING mystore.dim s ON dim.id = s.id REMOVE DUPLICATES
--> refused: MERGE … REMOVE DUPLICATES

SELECT COUNT(*) FROM (SELECT 1 AS a UNION ALL SELECT 2)
--> 2

SELECT SUM(n) FROM (SELECT n FROM (SELECT 3 AS n))
--> 3

SELECT a FROM (SELECT 1 AS a, ROW_NUMBER() OVER (ORDER BY 1) AS place) WHERE place = 1
--> 1

SELECT x FROM (WITH q AS (SELECT 7 AS x) SELECT x FROM q)
--> 7

SELECT l.a, r.b FROM (SELECT 1 AS a) l JOIN ((SELECT 1 AS b) UNION (SELECT 1)) r ON l.a = r.b CROSS JOIN (SELECT 2)
--> 1 | 1

SELECT SUM(column1) FROM (VALUES (1), (2))
--> 3

CREATE TABLE without_alias AS SELECT * FROM (SELECT 1 AS a)
--> ok

INSERT INTO without_alias SELECT * FROM (SELECT 2)
--> ok

SELECT q.a FROM (SELECT 1 AS a) q WHERE q.a IN (SELECT 1)
--> 1

CREATE VIEW sees_without_alias AS SELECT MAX(a) FROM (SELECT a FROM without_alias)
--> ok

CREATE OR REPLACE PROCEDURE counts() AS $$ DECLARE n INTEGER; text VARCHAR(MAX); BEGIN
    SELECT INTO n COUNT(*) FROM (SELECT 1 UNION ALL SELECT 2);
    EXECUTE 'INSERT INTO without_alias SELECT COUNT(*) + ' || n || ' FROM (SELECT 1)';
    text := 'SELECT SUM(a) FROM (SELECT ' || 'a' || ' FROM without_alias)';
    EXECUTE text || ' ;' INTO n;
    text := 'SELECT SUM(a) FROM (' || 'SELECT 4 AS a UNION ALL SELECT 5' || ');';
    EXECUTE text INTO n;
    INSERT INTO without_alias VALUES (n);
END $$ LANGUAGE plpgsql
--> ok

CALL counts()
--> ok

SELECT a FROM without_alias ORDER BY 1
--> 1 | 2 | 3 | 9

SELECT * FROM sees_without_alias
--> 9

CREATE PROCEDURE loops(doc VARCHAR(100), n OUT INT) AS $$ BEGIN
    n := 0;
    FOR i IN 0..JSON_ARRAY_LENGTH(doc)-1 LOOP n := n + JSON_EXTRACT_ARRAY_ELEMENT_TEXT(doc, i)::int; END LOOP;
    FOR i IN REVERSE LEN('abc')..NVL(NULL, 2) LOOP n := n + 100; END LOOP;
END $$ LANGUAGE plpgsql
--> ok

CALL loops('[3, 4]')
--> 207

WITH last_day (d) AS (SELECT DATE '2026-02-01'), trunc (len, nvl) AS (SELECT 1, 2)
    SELECT LAST_DAY(last_day.d), trunc.len FROM last_day, trunc
--> 2026-02-28 | 1

SELECT t.len, decode.b, round.c FROM (SELECT 5, 6) AS t(len, nvl) JOIN (SELECT 5) decode (b) ON decode.b = NVL(t.len, 1), generate_series(7, 7) AS round (c)
--> 5 | 5 | 7

CREATE TABLE names AS SELECT LEN('abc'), LISTAGG('x', ','), MEDIAN(1), GETDATE(), SYSDATE, CHARINDEX('a', 'ba'), CONCAT('a', 'b'), EXTRACT(day FROM DATE '2026-01-02'),
    DATE_PART(month, DATE '2026-01-02'), DATEADD(day, 1, DATE '2026-01-02'), DATEDIFF(day, '2026-01-01', '2026-01-03'), NVL(1, 2), DECODE(1, 1, 2), REPLICATE('a', 2)
--> ok

SELECT len, listagg, median, getdate <= "timestamp" + INTERVAL '1 day', charindex, concat, date_part, pgdate_part, date_add, date_diff, "coalesce", "case", replicate FROM names
--> 3 | x | 1 | true | 2 | ab | 2 | 1 | 2026-01-03 00:00:00 | 2 | 1 | 2 | aa

CREATE VIEW named AS SELECT LEN(what)::INT FROM (SELECT 'abcd' AS what)
--> ok

SELECT len FROM named WHERE len = (SELECT MAX(len) FROM (SELECT LEN('abcd')))
--> 4

SELECT region, LEN(region) FROM mystore.sales QUALIFY ROW_NUMBER() OVER (ORDER BY sale_id) = 1 ORDER BY len
--> N | 1

CREATE TABLE vb (a VARCHAR(5), t TEXT, c CHAR(3), v VARCHAR)
--> ok

INSERT INTO vb (a) VALUES ('あいう')
--> fails: ERROR: value too long for type character varying(5) [SQLSTATE 22001]

INSERT INTO vb (a) VALUES ('abcdef')
--> fails: ERROR: value too long for type character varying(5) [SQLSTATE 22001]

INSERT INTO vb (t) VALUES (REPEAT('x', 300))
--> fails: value too long for type character varying(256)

INSERT INTO vb (v) VALUES (REPEAT('x', 300))
--> fails: value too long for type character varying(256)

INSERT INTO vb (c) VALUES ('é')
--> fails: only ASCII characters are allowed in fixed length strings. Invalid ASCII char: c3 a9

CREATE TABLE vb2 (a VARCHAR(70000))
--> fails: length for type character varying cannot exceed 65535

INSERT INTO vb VALUES ('あb', REPEAT('x', 256), 'abc', 'é'), (NULL, NULL, NULL, NULL)
--> ok

CREATE TEMP TABLE stage (LIKE vb)
&& INSERT INTO stage SELECT * FROM vb
&& INSERT INTO stage (a) VALUES ('ああ')
--> fails: Query #3 failed with ERROR: value too long for type character varying(5)

ALTER TABLE vb ALTER COLUMN a TYPE VARCHAR(9)
--> ok

INSERT INTO vb (a) VALUES ('あいう')
--> ok

INSERT INTO vb (a) VALUES ('あいうx')
--> fails: value too long for type character varying(9)

ALTER TABLE vb ADD COLUMN added VARCHAR(2) DEFAULT 'é'
--> ok

UPDATE vb SET added = 'éé'
--> fails: value too long for type character varying(2)

CREATE PROCEDURE widens(size IN INT) AS $$ BEGIN
    ALTER TABLE vb ALTER COLUMN added TYPE VARCHAR(4);
    UPDATE vb SET added = 'éé';
    EXECUTE 'CREATE TABLE sized (a VARCHAR(' || size || '))';
    INSERT INTO sized VALUES ('ああ');
END $$ LANGUAGE plpgsql
--> ok

CALL widens(6)
--> ok

CALL widens(5)
--> fails: "sized" already exists

INSERT INTO sized VALUES ('あああ')
--> fails: value too long for type character varying(6)

CREATE TABLE target (id INT, name VARCHAR(20))
--> ok

CREATE TABLE source (id INT, name VARCHAR(20))
--> ok

DELETE FROM target AS t USING source AS s WHERE t.id = s.id
--> fails: syntax error at or near "AS"

MERGE INTO target AS t USING source AS s ON t.id = s.id WHEN MATCHED THEN UPDATE SET name = s.name WHEN NOT MATCHED THEN INSERT (id) VALUES (s.id)
--> fails: syntax error at or near "AS"

MERGE INTO target USING source AS s ON target.id = s.id WHEN MATCHED THEN UPDATE SET name = s.name
--> fails: syntax error at end of input

INSERT INTO target (id) VALUES (1) ON CONFLICT DO NOTHING
--> fails: syntax error at or near "ON"

INSERT INTO target (id) VALUES (2) RETURNING id
--> fails: syntax error at or near "RETURNING"

CREATE TABLE numbered (id SERIAL)
--> fails: Column "numbered.id" has unsupported type "serial".

CREATE TABLE listed (a INT[])
--> fails: Column "listed.a" has unsupported type "integer[]".

MERGE INTO target USING source AS s ON target.id = s.id WHEN MATCHED THEN UPDATE SET name = s.name WHEN NOT MATCHED THEN INSERT (id, name) VALUES (s.id, s.name)
--> ok

CREATE TABLE identified (id INT IDENTITY, strng TEXT)
--> ok

INSERT INTO identified (strng) VALUES ('a'), ('b')
--> ok

SELECT id FROM identified ORDER BY id
--> 1 | 2

CREATE TABLE identified2 (id BIGINT IDENTITY NOT NULL)
--> ok

CREATE TABLE mystore.doc (id INT, payload SUPER)
--> refused: SUPER

SELECT '{"a": 1}'::SUPER
--> refused: SUPER

SELECT JSON_PARSE('{"a": 1}')
--> refused: SUPER

SELECT SHA1('a')
--> refused: SHA1

SELECT pg_last_query_id()
--> refused: PG_LAST_QUERY_ID

SELECT query_id, status FROM sys_query_history ORDER BY start_time DESC LIMIT 1
--> refused: SYS_QUERY_HISTORY

SELECT COUNT(*) FROM stl_query
--> refused: STL_QUERY

SHOW TABLES FROM SCHEMA dev.mystore
--> refused: SHOW TABLES

SHOW TABLE mystore.sales
--> refused: SHOW TABLE

CANCEL 12345
--> refused: CANCEL

ALTER TABLE mystore.sales APPEND FROM mystore.dim
--> refused: ALTER TABLE APPEND

COPY mystore.sales FROM 's3://b/k' IAM_ROLE DEFAULT FORMAT AS PARQUET
--> refused: COPY from S3

UNLOAD ('SELECT * FROM mystore.sales WHERE region=\'N;\'') TO 's3://b/k' IAM_ROLE DEFAULT
--> refused: UNLOAD

CREATE EXTERNAL TABLE spectrum.t (a INT) STORED AS PARQUET LOCATION 's3://b/'
--> refused: CREATE EXTERNAL TABLE

SELECT * FROM (SELECT region, amount FROM mystore.sales) PIVOT (SUM(amount) FOR region IN ('N', 'S'))
--> refused: PIVOT

CREATE FUNCTION mystore.f_py(a INT) RETURNS INT IMMUTABLE AS $$ return a + 1 $$ LANGUAGE plpythonu
--> refused: plpythonu

ANALYZE COMPRESSION mystore.sales
--> refused: ANALYZE COMPRESSION

BEGIN
--> fails: BEGIN cannot be submitted

SELECT CAST(12.75 AS DECIMAL), CONVERT(DECIMAL, '1.6'), 12.75::NUMERIC, NUMERIC '0.4', ROUND(12.75)
--> 13 | 2 | 13 | 0 | 13

CREATE TABLE mystore.whole (a DECIMAL, b NUMERIC(5), c DEC(8,2))
&& INSERT INTO mystore.whole VALUES (12.75, 12.75, 12.755)
&& CREATE TABLE mystore.whole_too AS SELECT c::decimal AS c FROM mystore.whole
&& SELECT a, b, whole.c, whole_too.c FROM mystore.whole, mystore.whole_too
--> 13 | 13 | 12.76 | 13

CREATE PROCEDURE mystore.whole_of(x IN FLOAT, total OUT VARCHAR(20)) AS $$ DECLARE d DECIMAL; BEGIN d := x; total := d; END $$ LANGUAGE plpgsql
&& CALL mystore.whole_of(12.75)
--> 13

CREATE TABLE mystore."MixedT" ("Id" INT, "Total Amount" INT)
&& INSERT INTO mystore.mixedt (ID, "total amount") VALUES (1, 2)
&& SELECT x.id, x.total FROM (SELECT id, "TOTAL AMOUNT" AS "Total" FROM mystore.MixedT) x
--> 1 | 2

SET enable_case_sensitive_identifier TO true
&& CREATE TABLE mystore."KeptT" ("Id" INT, "ID" INT)
&& INSERT INTO mystore."KeptT" VALUES (1, 2)
&& SELECT "Id", "ID" FROM mystore."KeptT"
--> 1 | 2

SELECT * FROM mystore.keptt
--> fails: relation "mystore.keptt" does not exist

CREATE TABLE mystore.a_name_that_is_so_long_that_postgresql_would_silently_truncate_its_end (a INT)
--> fails: has 70 bytes

SELECT EXTRACT(ms FROM TIMESTAMP '2009-09-09 12:08:43.101234'), EXTRACT(us FROM TIMESTAMP '2009-09-09 12:08:43.101234'), EXTRACT(sec FROM TIMESTAMP '2009-09-09 12:08:43.101234')
--> 101 | 234 | 43

SELECT EXTRACT(ms FROM TIME '12:08:43.101'), EXTRACT(ms FROM '2009-09-09 12:08:43.101+00'::timestamptz), DATE_PART(ms, TIMESTAMP '2009-09-09 12:08:43.101')
--> 101 | 101 | 43101

SELECT REGEXP_SUBSTR('abc', 'z') = '', REGEXP_SUBSTR(NULL, 'z') IS NULL, REGEXP_SUBSTR('abc', 'b', 9) = '', REGEXP_SUBSTR('abc', 'b', 1, 0) IS NULL
--> true | true | true | true

SELECT REGEXP_SUBSTR('This is a Test', 'this is a (\\w+)', 1, 1, 'ie'), REGEXP_SUBSTR('a1b22', 'b([0-9])', 1, 1, 'e'), REGEXP_SUBSTR('a1b22', '[0-9]+', 1, 2, 'e'), REGEXP_SUBSTR('abc', '(?<=a)b', 1, 1, 'p')
--> Test | 2 | 22 | b

SELECT REGEXP_INSTR('the fox', '(f)[a-z]', 1, 1, 0, 'e'), REGEXP_COUNT('aAa', 'a', 1, 'i'), REGEXP_COUNT('aAa', 'a', 1, 'p')
--> 5 | 3 | 2

SELECT STDDEV(x), VARIANCE(x), VAR_POP(x), STDDEV_POP(x), STDDEV_SAMP(x), VAR_SAMP(x) FROM (SELECT 3 AS x UNION ALL SELECT 5)
--> 1.4142135623730951 | 2 | 1 | 1 | 1.4142135623730951 | 2

SELECT STDDEV_SAMP(DISTINCT x::DECIMAL(8,2)) / 3, VAR_SAMP(x) OVER () FROM (SELECT 3 AS x) GROUP BY x
--> NULL | NULL

SELECT JSON_EXTRACT_ARRAY_ELEMENT_TEXT('[1,2,3]', -1), JSON_EXTRACT_ARRAY_ELEMENT_TEXT('[1,2,3]', -1, true), JSON_EXTRACT_ARRAY_ELEMENT_TEXT('[1,2,3]', 2)
--> NULL | NULL | 3

SELECT TO_DATE('20010631', 'YYYYMMDD'), TO_DATE('20010631', 'YYYYMMDD', FALSE), TO_DATE('31/02/2024', 'DD/MM/YYYY'), TO_DATE('02 Oct 2001', 'DD Mon YYYY', TRUE)
--> 2001-07-01 | 2001-07-01 | 2024-03-02 | 2001-10-02

SELECT TO_TIMESTAMP('2011-12-18 24:38:15', 'YYYY-MM-DD HH24:MI:SS'), TO_TIMESTAMP('2011-12-18 11:38:15', 'YYYY-MM-DD HH24:MI:SS')::timestamp
--> 2011-12-19 00:38:15+00 | 2011-12-18 11:38:15

SELECT TO_DATE('20010631', 'YYYYMMDD', TRUE)
--> fails: date/time field value out of range

SELECT TO_DATE('31 Jun 2001', 'DD Mon YYYY'), TO_DATE('2001/13/1', 'YYYY-MM-DD')
--> 2001-07-01 | 2002-01-01

SELECT TO_DATE('01-06-31', 'YY-MM-DD')
--> fails: date/time field value out of range

SELECT DATEADD(minute, 1.5, '2024-01-01'::timestamp), DATEADD(day, 2::bigint, DATE '2024-01-01'), DATEADD(day, '1', '2024-01-01'), DATEADD(day, -1.5::float8, DATE '2024-01-10')
--> 2024-01-01 00:02:00 | 2024-01-03 00:00:00 | 2024-01-02 00:00:00 | 2024-01-08 00:00:00

SELECT SPLIT_PART('a,b,c', ',', 2), SPLIT_PART('a', ',', 3) = ''
--> b | true

SELECT SPLIT_PART('a,b,c', ',', -1)
--> fails: field position must be greater than zero

SELECT OCTETINDEX('q', 'Äpfelqb'), TO_HEX(2147447899), TO_HEX('abc'::VARBYTE), CURRENT_USER_ID > 0
--> 7 | 7fff745b | 616263 | true

SELECT TEXT_TO_INT_ALT('123-')
--> refused: the function TEXT_TO_INT_ALT

SELECT HLL(amount) FROM mystore.sales
--> refused: use COUNT(DISTINCT …)

SELECT ARRAY(1, 2)
--> refused: the function ARRAY of the type SUPER

SELECT region, SUM(amount) FROM mystore.sales GROUP BY ALL
--> refused: GROUP BY ALL

SELECT region FROM mystore.sales START WITH region IS NULL CONNECT BY PRIOR sale_id = customer_id
--> refused: CONNECT BY

SELECT SUM(amount) OVER (ORDER BY sale_id) FROM mystore.sales
--> fails: Aggregate window functions with an ORDER BY clause require a frame clause

SELECT UPPER('é'), LOWER('ÄÖ'), INITCAP('écru'), 'b' < 'ä', 'Z' < 'a'
--> É | äö | Écru | true | true

DROP TABLE IF EXISTS mystore.sales CASCADE
--> ok
