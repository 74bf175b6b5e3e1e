-- Maps Redshift's names and abbreviations of date parts to PostgreSQL's names.
CREATE OR REPLACE FUNCTION ~.date_part_name(part text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE
        WHEN lower(part) IN ('millennium', 'millennia', 'mil', 'mils') THEN 'millennium'
        WHEN lower(part) IN ('century', 'centuries', 'c', 'cent', 'cents') THEN 'century'
        WHEN lower(part) IN ('decade', 'decades', 'dec', 'decs') THEN 'decade'
        WHEN lower(part) IN ('year', 'years', 'y', 'yr', 'yrs') THEN 'year'
        WHEN lower(part) IN ('quarter', 'quarters', 'qtr', 'qtrs') THEN 'quarter'
        WHEN lower(part) IN ('month', 'months', 'mon', 'mons') THEN 'month'
        WHEN lower(part) IN ('week', 'weeks', 'w') THEN 'week'
        WHEN lower(part) IN ('day', 'days', 'd') THEN 'day'
        WHEN lower(part) IN ('dow', 'dayofweek', 'dw', 'weekday') THEN 'dow'
        WHEN lower(part) IN ('doy', 'dayofyear', 'dy', 'yearday') THEN 'doy'
        WHEN lower(part) IN ('hour', 'hours', 'h', 'hr', 'hrs') THEN 'hour'
        WHEN lower(part) IN ('minute', 'minutes', 'm', 'min', 'mins') THEN 'minute'
        WHEN lower(part) IN ('second', 'seconds', 's', 'sec', 'secs') THEN 'second'
        WHEN lower(part) IN ('millisecond', 'milliseconds', 'ms', 'msec', 'msecs', 'msecond', 'mseconds', 'millisec', 'millisecs', 'millisecon') THEN 'millisecond'
        WHEN lower(part) IN ('microsecond', 'microseconds', 'us', 'usec', 'usecs', 'usecond', 'useconds', 'microsec', 'microsecs') THEN 'microsecond'
        ELSE lower(part) END
$$;

-- Converts a number of units of a date part to an interval.
CREATE OR REPLACE FUNCTION ~.date_parts(part text, number bigint) RETURNS interval LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE ~.date_part_name(part)
        WHEN 'quarter' THEN make_interval(months => (3 * number)::int)
        WHEN 'week' THEN make_interval(days => (7 * number)::int)
        WHEN 'millisecond' THEN number * INTERVAL '1 millisecond'
        WHEN 'microsecond' THEN number * INTERVAL '1 microsecond'
        WHEN 'second' THEN number * INTERVAL '1 second'
        WHEN 'minute' THEN number * INTERVAL '1 minute'
        ELSE (number || ' ' || ~.date_part_name(part))::interval END
$$;

-- The number is rounded to an integer. It is a double because a call with a string literal must have only one candidate.
CREATE OR REPLACE FUNCTION ~.rounded(number double precision) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT (sign(number) * floor(abs(number) + 0.5))::bigint
$$;
CREATE OR REPLACE FUNCTION ~.dateadd(part text, number double precision, at timestamp) RETURNS timestamp LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT at + ~.date_parts(part, ~.rounded(number))
$$;
CREATE OR REPLACE FUNCTION ~.dateadd(part text, number double precision, at date) RETURNS timestamp LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT at::timestamp + ~.date_parts(part, ~.rounded(number))
$$;
CREATE OR REPLACE FUNCTION ~.dateadd(part text, number double precision, at timestamptz) RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT at + ~.date_parts(part, ~.rounded(number))
$$;
CREATE OR REPLACE FUNCTION ~.dateadd(part text, number double precision, at time) RETURNS time LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT at + ~.date_parts(part, ~.rounded(number))
$$;

-- Counts the boundaries of a date part between two times, as Redshift does.
CREATE OR REPLACE FUNCTION ~.datediff(part text, begins timestamp, ends timestamp) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT (CASE ~.date_part_name(part)
        WHEN 'millennium' THEN extract(millennium FROM ends) - extract(millennium FROM begins)
        WHEN 'century' THEN extract(century FROM ends) - extract(century FROM begins)
        WHEN 'decade' THEN extract(decade FROM ends) - extract(decade FROM begins)
        WHEN 'year' THEN extract(year FROM ends) - extract(year FROM begins)
        WHEN 'quarter' THEN 4 * (extract(year FROM ends) - extract(year FROM begins)) + extract(quarter FROM ends) - extract(quarter FROM begins)
        WHEN 'month' THEN 12 * (extract(year FROM ends) - extract(year FROM begins)) + extract(month FROM ends) - extract(month FROM begins)
        WHEN 'week' THEN (date_trunc('week', ends)::date - date_trunc('week', begins)::date) / 7
        WHEN 'day' THEN ends::date - begins::date
        WHEN 'hour' THEN (extract(epoch FROM date_trunc('hour', ends)) - extract(epoch FROM date_trunc('hour', begins))) / 3600
        WHEN 'minute' THEN (extract(epoch FROM date_trunc('minute', ends)) - extract(epoch FROM date_trunc('minute', begins))) / 60
        WHEN 'second' THEN extract(epoch FROM date_trunc('second', ends)) - extract(epoch FROM date_trunc('second', begins))
        WHEN 'millisecond' THEN floor(1000 * extract(epoch FROM ends)) - floor(1000 * extract(epoch FROM begins))
        WHEN 'microsecond' THEN 1000000 * (extract(epoch FROM ends) - extract(epoch FROM begins))
        ELSE ('not a valid date part: ' || part)::int END)::bigint
$$;
CREATE OR REPLACE FUNCTION ~.datediff(part text, begins timestamptz, ends timestamptz) RETURNS bigint LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT ~.datediff(part, begins AT TIME ZONE 'UTC', ends AT TIME ZONE 'UTC')
$$;
CREATE OR REPLACE FUNCTION ~.datediff(part text, begins time, ends time) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT ~.datediff(part, DATE '2000-01-01' + begins, DATE '2000-01-01' + ends)
$$;

-- If the date is the last day of its month, the result is the last day of the resulting month.
CREATE OR REPLACE FUNCTION ~.add_months(at timestamp, months bigint) RETURNS timestamp LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN extract(month FROM at + INTERVAL '1 day') <> extract(month FROM at)
        THEN date_trunc('month', at) + make_interval(months => months::int + 1) - INTERVAL '1 day' + (at - date_trunc('day', at))
        ELSE at + make_interval(months => months::int) END
$$;
CREATE OR REPLACE FUNCTION ~.last_day(at timestamp) RETURNS date LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT (date_trunc('month', at) + INTERVAL '1 month' - INTERVAL '1 day')::date
$$;
CREATE OR REPLACE FUNCTION ~.next_day(at timestamp, day text) RETURNS date LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT at::date + 1 + (strpos('su mo tu we th fr sa', left(lower(day), 2)) / 3 - extract(dow FROM at)::int + 6) % 7
$$;
CREATE OR REPLACE FUNCTION ~.months_between(late timestamp, early timestamp) RETURNS double precision LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT 12 * (extract(year FROM late) - extract(year FROM early)) + extract(month FROM late) - extract(month FROM early)
        + CASE WHEN extract(day FROM late) = extract(day FROM early) OR (late::date = ~.last_day(late) AND early::date = ~.last_day(early)) THEN 0
          ELSE (extract(day FROM late) - extract(day FROM early) + (extract(epoch FROM late::time) - extract(epoch FROM early::time)) / 86400) / 31 END
$$;
CREATE OR REPLACE FUNCTION ~.date_part_year(at date) RETURNS int LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT extract(year FROM at)::int $$;
CREATE OR REPLACE FUNCTION ~.convert_timezone(target text, at timestamp) RETURNS timestamp LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT (at AT TIME ZONE 'UTC') AT TIME ZONE target
$$;
CREATE OR REPLACE FUNCTION ~.convert_timezone(source text, target text, at timestamp) RETURNS timestamp LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT (at AT TIME ZONE source) AT TIME ZONE target
$$;

CREATE OR REPLACE FUNCTION ~.convert_timezone(target text, at timestamptz) RETURNS timestamp LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT ~.convert_timezone(target, at::timestamp)
$$;
CREATE OR REPLACE FUNCTION ~.convert_timezone(source text, target text, at timestamptz) RETURNS timestamp LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT ~.convert_timezone(source, target, at::timestamp)
$$;

-- Overloads for times with a zone, which are first converted to the session's time zone.
CREATE OR REPLACE FUNCTION ~.add_months(at timestamptz, months bigint) RETURNS timestamp LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT ~.add_months(at::timestamp, months)
$$;
CREATE OR REPLACE FUNCTION ~.last_day(at timestamptz) RETURNS date LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT ~.last_day(at::timestamp)
$$;
CREATE OR REPLACE FUNCTION ~.next_day(at timestamptz, day text) RETURNS date LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT ~.next_day(at::timestamp, day)
$$;
CREATE OR REPLACE FUNCTION ~.months_between(late timestamptz, early timestamptz) RETURNS double precision LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT ~.months_between(late::timestamp, early::timestamp)
$$;

-- Overloads for dates return a timestamp without a zone.
CREATE OR REPLACE FUNCTION ~.date_trunc(part text, at timestamp) RETURNS timestamp LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT pg_catalog.date_trunc(~.date_part_name(part), at)
$$;
CREATE OR REPLACE FUNCTION ~.date_trunc(part text, at date) RETURNS timestamp LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT pg_catalog.date_trunc(~.date_part_name(part), at::timestamp)
$$;
CREATE OR REPLACE FUNCTION ~.date_trunc(part text, at timestamptz) RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT pg_catalog.date_trunc(~.date_part_name(part), at)
$$;

CREATE OR REPLACE FUNCTION ~.trunc(at timestamp) RETURNS date LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT at::date $$;
CREATE OR REPLACE FUNCTION ~.trunc(at timestamptz) RETURNS date LANGUAGE sql STABLE PARALLEL SAFE AS $$ SELECT at::date $$;
CREATE OR REPLACE FUNCTION ~.trunc(x numeric) RETURNS numeric LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT pg_catalog.trunc(x) $$;
CREATE OR REPLACE FUNCTION ~.trunc(x numeric, digits int) RETURNS numeric LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT pg_catalog.trunc(x, digits) $$;
CREATE OR REPLACE FUNCTION ~.trunc(x double precision) RETURNS double precision LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT pg_catalog.trunc(x) $$;
CREATE OR REPLACE FUNCTION ~.trunc(x double precision, digits int) RETURNS double precision LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT pg_catalog.trunc(x::numeric, digits)::double precision
$$;
CREATE OR REPLACE FUNCTION ~.round(x numeric) RETURNS numeric LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT pg_catalog.round(x) $$;
CREATE OR REPLACE FUNCTION ~.round(x numeric, digits int) RETURNS numeric LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT pg_catalog.round(x, digits) $$;
CREATE OR REPLACE FUNCTION ~.round(x double precision) RETURNS double precision LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT pg_catalog.round(x) $$;
CREATE OR REPLACE FUNCTION ~.round(x double precision, digits int) RETURNS double precision LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT pg_catalog.round(x::numeric, digits)::double precision
$$;

CREATE OR REPLACE FUNCTION ~.sha2(value text, bits int) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT encode(CASE bits WHEN 224 THEN sha224(convert_to(value, 'UTF8')) WHEN 384 THEN sha384(convert_to(value, 'UTF8'))
        WHEN 512 THEN sha512(convert_to(value, 'UTF8')) ELSE sha256(convert_to(value, 'UTF8')) END, 'hex')
$$;
CREATE OR REPLACE FUNCTION ~.strtol(number text, base int) RETURNS bigint LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
    digits text := lower(ltrim(number));
    sign int := CASE WHEN left(digits, 1) = '-' THEN -1 ELSE 1 END;
    alphabet text := left('0123456789abcdefghijklmnopqrstuvwxyz', base);
    value numeric := 0;
BEGIN
    digits := regexp_replace(digits, '^[+-]', '');
    IF base = 16 THEN digits := regexp_replace(digits, '^0x', ''); END IF;
    IF base NOT BETWEEN 2 AND 36 OR digits = '' OR btrim(digits, alphabet) <> '' THEN
        RAISE EXCEPTION 'The input % is not valid to be converted to base %', number, base USING ERRCODE = 'invalid_text_representation';
    END IF;
    FOR place IN 1..length(digits) LOOP
        value := value * base + strpos(alphabet, substr(digits, place, 1)) - 1;
    END LOOP;
    RETURN sign * value;
END $$;

-- Replaces every match at or after a position. Redshift writes `$1` for the first group, and PostgreSQL `\1`.
CREATE OR REPLACE FUNCTION ~.regexp_replace(source text, pattern text, replacement text DEFAULT '', start int DEFAULT 1, parameters text DEFAULT 'c')
RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT left(source, greatest(start, 1) - 1) || pg_catalog.regexp_replace(substr(source, greatest(start, 1)), pattern,
        pg_catalog.regexp_replace(replacement, '[$]([0-9])', E'\\\\\\1', 'g'), 'g' || CASE WHEN parameters LIKE '%i%' THEN 'i' ELSE 'c' END)
$$;

-- The parameter `i` ignores case, and `e` selects the first subexpression of a pattern that has one. The others have no equivalent
-- or need none: `c` is the default, and PostgreSQL's patterns contain most of what `p` enables.
CREATE OR REPLACE FUNCTION ~.regexp_flags(parameters text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN parameters LIKE '%i%' THEN 'i' ELSE 'c' END
$$;
CREATE OR REPLACE FUNCTION ~.regexp_group(pattern text, parameters text) RETURNS int LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN parameters LIKE '%e%' AND array_length(regexp_match('', pattern || '|()'), 1) > 1 THEN 1 ELSE 0 END
$$;
CREATE OR REPLACE FUNCTION ~.regexp_substr(source text, pattern text, start int DEFAULT 1, occurrence int DEFAULT 1, parameters text DEFAULT 'c')
RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT CASE WHEN occurrence BETWEEN 1 AND greatest(length(source), 1) THEN coalesce(
        pg_catalog.regexp_substr(source, pattern, greatest(start, 1), occurrence, ~.regexp_flags(parameters), ~.regexp_group(pattern, parameters)), '') END
$$;
CREATE OR REPLACE FUNCTION ~.regexp_instr(source text, pattern text, start int DEFAULT 1, occurrence int DEFAULT 1, option int DEFAULT 0, parameters text DEFAULT 'c')
RETURNS int LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT CASE WHEN occurrence < 1 THEN 0 ELSE
        pg_catalog.regexp_instr(source, pattern, greatest(start, 1), occurrence, option, ~.regexp_flags(parameters), ~.regexp_group(pattern, parameters)) END
$$;
CREATE OR REPLACE FUNCTION ~.regexp_count(source text, pattern text, start int DEFAULT 1, parameters text DEFAULT 'c')
RETURNS int LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT pg_catalog.regexp_count(source, pattern, greatest(start, 1), ~.regexp_flags(parameters))
$$;
CREATE OR REPLACE FUNCTION ~.split_part(value text, delimiter text, part int) RETURNS text LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$ BEGIN
    IF part < 1 THEN
        RAISE EXCEPTION 'field position must be greater than zero' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RETURN pg_catalog.split_part(value, delimiter, part);
END $$;
CREATE OR REPLACE FUNCTION ~.octetindex(part text, value text) RETURNS int LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT position(convert_to(part, 'UTF8') IN convert_to(value, 'UTF8'))
$$;
CREATE OR REPLACE FUNCTION ~.to_hex(value int) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$ SELECT pg_catalog.to_hex(value) $$;
CREATE OR REPLACE FUNCTION ~.to_hex(value bigint) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$ SELECT pg_catalog.to_hex(value) $$;
CREATE OR REPLACE FUNCTION ~.to_hex(value bytea) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$ SELECT encode(value, 'hex') $$;
CREATE OR REPLACE FUNCTION ~.current_user_id() RETURNS int LANGUAGE sql STABLE AS $$ SELECT usesysid::int FROM pg_catalog.pg_user WHERE usename = current_user $$;

-- TO_DATE and TO_TIMESTAMP carry a part beyond its range over: the 31st of June is the 1st of July. PostgreSQL fails, as Redshift does
-- if `is_strict` is true. Returns NULL if the format has other parts than these, so that the error of PostgreSQL remains.
CREATE OR REPLACE FUNCTION ~.carried_over(value text, format text) RETURNS timestamp LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
    pattern text := '^ *';
    piece text;
    names text[] := ARRAY[]::text[];
    numbers text[];
    part jsonb := '{"YYYY": 1, "MM": 1, "DD": 1, "HH24": 0, "MI": 0, "SS": 0}';
BEGIN
    FOR piece IN SELECT m[1] FROM regexp_matches(upper(format), 'YYYY|MONTH|MON|MM|DD|HH24|MI|SS|.', 'g') AS m LOOP
        IF piece IN ('MONTH', 'MON') THEN
            names := names || 'MM'::text;
            pattern := pattern || '([A-Za-z]{3,9})';
        ELSIF part ? piece THEN
            names := names || piece;
            pattern := pattern || CASE piece WHEN 'YYYY' THEN '([0-9]{1,4})' ELSE '([0-9]{1,2})' END;
        ELSIF piece COLLATE "C" BETWEEN 'A' AND 'Z' OR piece = '"' THEN
            RETURN NULL;
        ELSE
            pattern := pattern || '[^0-9]*';
        END IF;
    END LOOP;
    numbers := regexp_match(value, pattern);
    FOR place IN 1..coalesce(array_length(numbers, 1), 0) LOOP
        part := part || jsonb_build_object(names[place], CASE WHEN left(numbers[place], 1) IN ('0', '1', '2', '3', '4', '5', '6', '7', '8', '9') THEN numbers[place]::int
            ELSE (strpos('JANFEBMARAPRMAYJUNJULAUGSEPOCTNOVDEC', upper(left(numbers[place], 3))) + 2) / 3 END);
    END LOOP;
    RETURN CASE WHEN numbers IS NOT NULL THEN make_timestamp((part ->> 'YYYY')::int, 1, 1, 0, 0, 0) + make_interval(
        months => (part ->> 'MM')::int - 1, days => (part ->> 'DD')::int - 1,
        hours => (part ->> 'HH24')::int, mins => (part ->> 'MI')::int, secs => (part ->> 'SS')::int) END;
END $$;
CREATE OR REPLACE FUNCTION ~.to_date(value text, format text, is_strict boolean DEFAULT false) RETURNS date LANGUAGE plpgsql STABLE STRICT AS $$ BEGIN
    RETURN pg_catalog.to_date(value, format);
EXCEPTION WHEN datetime_field_overflow THEN
    IF is_strict OR ~.carried_over(value, format) IS NULL THEN RAISE; END IF;
    RETURN ~.carried_over(value, format)::date;
END $$;
CREATE OR REPLACE FUNCTION ~.to_timestamp(value text, format text, is_strict boolean DEFAULT false) RETURNS timestamptz LANGUAGE plpgsql STABLE STRICT AS $$ BEGIN
    RETURN pg_catalog.to_timestamp(value, format);
EXCEPTION WHEN datetime_field_overflow THEN
    IF is_strict OR ~.carried_over(value, format) IS NULL THEN RAISE; END IF;
    RETURN ~.carried_over(value, format)::timestamptz;
END $$;
CREATE OR REPLACE FUNCTION ~.to_timestamp(epoch double precision) RETURNS timestamptz LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$ SELECT pg_catalog.to_timestamp(epoch) $$;

CREATE OR REPLACE FUNCTION ~.json_extract_path_text(document text, VARIADIC path text[]) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT nullif(document, '')::json #>> path
$$;
CREATE OR REPLACE FUNCTION ~.json_extract_path_text(document json, VARIADIC path text[]) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT document #>> path
$$;
-- PostgreSQL counts a negative position from the end. On Redshift, there is no such element.
CREATE OR REPLACE FUNCTION ~.json_extract_array_element_text(document text, place int) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT nullif(document, '')::json ->> CASE WHEN place >= 0 THEN place END
$$;
CREATE OR REPLACE FUNCTION ~.json_array_length(document text) RETURNS int LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT pg_catalog.json_array_length(nullif(document, '')::json)
$$;
CREATE OR REPLACE FUNCTION ~.json_array_length(document json) RETURNS int LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT pg_catalog.json_array_length(document)
$$;
CREATE OR REPLACE FUNCTION ~.is_valid_json(document text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
    RETURN json_typeof(document::json) = 'object';
EXCEPTION WHEN invalid_text_representation THEN RETURN false; END $$;
CREATE OR REPLACE FUNCTION ~.is_valid_json_array(document text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
    RETURN json_typeof(document::json) = 'array';
EXCEPTION WHEN invalid_text_representation THEN RETURN false; END $$;

CREATE OR REPLACE FUNCTION ~.first_of(first anyelement, next anyelement) RETURNS anyelement LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$ SELECT first $$;
CREATE OR REPLACE AGGREGATE ~.any_value(anyelement) (SFUNC = ~.first_of, STYPE = anyelement, PARALLEL = SAFE);

-- Aggregates for FIRST_VALUE and LAST_VALUE with IGNORE NULLS: the first or last non-NULL value of a window.
CREATE OR REPLACE FUNCTION ~.later_of(first anyelement, next anyelement) RETURNS anyelement LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT coalesce(next, first) $$;
CREATE OR REPLACE FUNCTION ~.earlier_of(first anyelement, next anyelement) RETURNS anyelement LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT coalesce(first, next) $$;
CREATE OR REPLACE AGGREGATE ~.last_filled(anyelement) (SFUNC = ~.later_of, STYPE = anyelement);
CREATE OR REPLACE AGGREGATE ~.first_filled(anyelement) (SFUNC = ~.earlier_of, STYPE = anyelement);

-- PERCENTILE_CONT with OVER. The state is an array of the fraction followed by the values.
CREATE OR REPLACE FUNCTION ~.percentile_add(state double precision[], fraction double precision, value double precision)
RETURNS double precision[] LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN value IS NULL THEN state ELSE coalesce(state, ARRAY[fraction]) || value END
$$;
CREATE OR REPLACE FUNCTION ~.percentile_of(state double precision[]) RETURNS double precision LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT percentile_cont(state[1]) WITHIN GROUP (ORDER BY value) FROM unnest(state[2:]) AS value
$$;
CREATE OR REPLACE AGGREGATE ~.percentile_over(double precision, double precision) (SFUNC = ~.percentile_add, STYPE = double precision[], FINALFUNC = ~.percentile_of);

-- AVG of integers returns an integer, as on Redshift.
CREATE OR REPLACE FUNCTION ~.avg_of_whole(state bigint[]) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT state[2] / nullif(state[1], 0)
$$;
CREATE OR REPLACE FUNCTION ~.avg_add(state numeric[], value numeric) RETURNS numeric[] LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT ARRAY[state[1] + 1, state[2] + value]
$$;
CREATE OR REPLACE FUNCTION ~.avg_add(state numeric[], value bigint) RETURNS numeric[] LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT ARRAY[state[1] + 1, state[2] + value]
$$;
CREATE OR REPLACE FUNCTION ~.avg_of(state numeric[]) RETURNS numeric LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT state[2] / nullif(state[1], 0)
$$;
CREATE OR REPLACE FUNCTION ~.avg_of_large(state numeric[]) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT pg_catalog.trunc(state[2] / nullif(state[1], 0))::bigint
$$;
CREATE OR REPLACE FUNCTION ~.avg_add(state interval[], value interval) RETURNS interval[] LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT ARRAY[state[1] + INTERVAL '1 second', state[2] + value]
$$;
CREATE OR REPLACE FUNCTION ~.avg_of(state interval[]) RETURNS interval LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT state[2] / nullif(extract(epoch FROM state[1])::double precision, 0)
$$;
CREATE OR REPLACE AGGREGATE ~.avg(smallint) (SFUNC = int2_avg_accum, STYPE = bigint[], FINALFUNC = ~.avg_of_whole, INITCOND = '{0,0}');
CREATE OR REPLACE AGGREGATE ~.avg(integer) (SFUNC = int4_avg_accum, STYPE = bigint[], FINALFUNC = ~.avg_of_whole, INITCOND = '{0,0}');
CREATE OR REPLACE AGGREGATE ~.avg(bigint) (SFUNC = ~.avg_add, STYPE = numeric[], FINALFUNC = ~.avg_of_large, INITCOND = '{0,0}');
CREATE OR REPLACE AGGREGATE ~.avg(numeric) (SFUNC = ~.avg_add, STYPE = numeric[], FINALFUNC = ~.avg_of, INITCOND = '{0,0}');
CREATE OR REPLACE AGGREGATE ~.avg(real) (SFUNC = float4_accum, STYPE = double precision[], FINALFUNC = float8_avg, INITCOND = '{0,0,0}');
CREATE OR REPLACE AGGREGATE ~.avg(double precision) (SFUNC = float8_accum, STYPE = double precision[], FINALFUNC = float8_avg, INITCOND = '{0,0,0}');
CREATE OR REPLACE AGGREGATE ~.avg(interval) (SFUNC = ~.avg_add, STYPE = interval[], FINALFUNC = ~.avg_of, INITCOND = '{0 s,0 s}');

-- SUM of integers returns a BIGINT, and SUM of floats a DOUBLE PRECISION.
CREATE OR REPLACE FUNCTION ~.sum_of(state double precision[]) RETURNS double precision LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN state[1] > 0 THEN state[2] END
$$;
CREATE OR REPLACE AGGREGATE ~.sum(smallint) (SFUNC = int2_sum, STYPE = bigint);
CREATE OR REPLACE AGGREGATE ~.sum(integer) (SFUNC = int4_sum, STYPE = bigint);
CREATE OR REPLACE AGGREGATE ~.sum(bigint) (SFUNC = int8pl, STYPE = bigint);
CREATE OR REPLACE AGGREGATE ~.sum(numeric) (SFUNC = numeric_add, STYPE = numeric);
CREATE OR REPLACE AGGREGATE ~.sum(real) (SFUNC = float4_accum, STYPE = double precision[], FINALFUNC = ~.sum_of, INITCOND = '{0,0,0}');
CREATE OR REPLACE AGGREGATE ~.sum(double precision) (SFUNC = float8pl, STYPE = double precision);
CREATE OR REPLACE AGGREGATE ~.sum(interval) (SFUNC = interval_pl, STYPE = interval);

-- The standard deviation and the variance are doubles, whatever the type of the values.
CREATE OR REPLACE AGGREGATE ~.stddev(double precision) (SFUNC = float8_accum, STYPE = double precision[], FINALFUNC = float8_stddev_samp, INITCOND = '{0,0,0}');
CREATE OR REPLACE AGGREGATE ~.stddev_samp(double precision) (SFUNC = float8_accum, STYPE = double precision[], FINALFUNC = float8_stddev_samp, INITCOND = '{0,0,0}');
CREATE OR REPLACE AGGREGATE ~.stddev_pop(double precision) (SFUNC = float8_accum, STYPE = double precision[], FINALFUNC = float8_stddev_pop, INITCOND = '{0,0,0}');
CREATE OR REPLACE AGGREGATE ~.variance(double precision) (SFUNC = float8_accum, STYPE = double precision[], FINALFUNC = float8_var_samp, INITCOND = '{0,0,0}');
CREATE OR REPLACE AGGREGATE ~.var_samp(double precision) (SFUNC = float8_accum, STYPE = double precision[], FINALFUNC = float8_var_samp, INITCOND = '{0,0,0}');
CREATE OR REPLACE AGGREGATE ~.var_pop(double precision) (SFUNC = float8_accum, STYPE = double precision[], FINALFUNC = float8_var_pop, INITCOND = '{0,0,0}');

-- EXTRACT returns an integer, except for a timestamp with a zone. Milliseconds exclude the seconds, and microseconds the milliseconds.
CREATE OR REPLACE FUNCTION ~.one_part(part text, value double precision) RETURNS double precision LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN ~.date_part_name(part) IN ('millisecond', 'microsecond') THEN floor(value)::bigint % 1000 ELSE value END
$$;
CREATE OR REPLACE FUNCTION ~.extract_part(part text, at timestamp) RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT floor(~.one_part(part, pg_catalog.date_part(~.date_part_name(part), at)))::integer
$$;
CREATE OR REPLACE FUNCTION ~.extract_part(part text, at date) RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT floor(~.one_part(part, pg_catalog.date_part(~.date_part_name(part), at::timestamp)))::integer
$$;
CREATE OR REPLACE FUNCTION ~.extract_part(part text, at timestamptz) RETURNS double precision LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT ~.one_part(part, pg_catalog.date_part(~.date_part_name(part), at))
$$;
CREATE OR REPLACE FUNCTION ~.extract_part(part text, at time) RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT floor(~.one_part(part, pg_catalog.date_part(~.date_part_name(part), at)))::integer
$$;
CREATE OR REPLACE FUNCTION ~.extract_part(part text, at timetz) RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT floor(~.one_part(part, pg_catalog.date_part(~.date_part_name(part), at)))::integer
$$;
CREATE OR REPLACE FUNCTION ~.extract_part(part text, at interval) RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT floor(~.one_part(part, pg_catalog.date_part(~.date_part_name(part), at)))::integer
$$;

-- Overloads with `null_if_invalid`: if it is true, invalid JSON yields NULL.
CREATE OR REPLACE FUNCTION ~.json_or_null(document text, null_if_invalid boolean) RETURNS json LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
    RETURN nullif(document, '')::json;
EXCEPTION WHEN invalid_text_representation THEN
    IF null_if_invalid THEN RETURN NULL; END IF;
    RAISE;
END $$;
CREATE OR REPLACE FUNCTION ~.json_extract_path_text(document text, a text, null_if_invalid boolean) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT ~.json_or_null(document, null_if_invalid) #>> ARRAY[a]
$$;
CREATE OR REPLACE FUNCTION ~.json_extract_path_text(document text, a text, b text, null_if_invalid boolean) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT ~.json_or_null(document, null_if_invalid) #>> ARRAY[a, b]
$$;
CREATE OR REPLACE FUNCTION ~.json_extract_path_text(document text, a text, b text, c text, null_if_invalid boolean) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT ~.json_or_null(document, null_if_invalid) #>> ARRAY[a, b, c]
$$;
CREATE OR REPLACE FUNCTION ~.json_extract_path_text(document text, a text, b text, c text, d text, null_if_invalid boolean) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT ~.json_or_null(document, null_if_invalid) #>> ARRAY[a, b, c, d]
$$;
CREATE OR REPLACE FUNCTION ~.json_extract_path_text(document text, a text, b text, c text, d text, e text, null_if_invalid boolean) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT ~.json_or_null(document, null_if_invalid) #>> ARRAY[a, b, c, d, e]
$$;
CREATE OR REPLACE FUNCTION ~.json_extract_array_element_text(document text, place int, null_if_invalid boolean) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT ~.json_or_null(document, null_if_invalid) ->> CASE WHEN place >= 0 THEN place END
$$;
CREATE OR REPLACE FUNCTION ~.json_array_length(document text, null_if_invalid boolean) RETURNS int LANGUAGE sql IMMUTABLE AS $$
    SELECT pg_catalog.json_array_length(~.json_or_null(document, null_if_invalid))
$$;

CREATE OR REPLACE FUNCTION ~.to_varbyte(value text, format text) RETURNS bytea LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE lower(format) WHEN 'hex' THEN decode(value, 'hex') WHEN 'base64' THEN decode(value, 'base64') ELSE convert_to(value, 'UTF8') END
$$;
CREATE OR REPLACE FUNCTION ~.from_varbyte(value bytea, format text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE lower(format) WHEN 'hex' THEN encode(value, 'hex') WHEN 'base64' THEN encode(value, 'base64') ELSE convert_from(value, 'UTF8') END
$$;
CREATE OR REPLACE FUNCTION ~.from_hex(value text) RETURNS bytea LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT decode(value, 'hex') $$;

-- Adds `change` to the number of active blocks with an exception handler, and returns the sum. The setting is
-- transactional: rolling back a block also restores the number.
CREATE OR REPLACE FUNCTION ~.handled(change int) RETURNS int LANGUAGE sql VOLATILE AS $$
    SELECT set_config('redshift.handled', (coalesce(nullif(current_setting('redshift.handled', true), '')::int, 0) + change)::text, true)::int
$$;

-- Raise the errors of column checks. They are declared volatile because the planner would evaluate an
-- immutable function of constants, and raise the error, even if the check does not call it.
CREATE OR REPLACE FUNCTION ~.too_long(size int) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$ BEGIN
    RAISE EXCEPTION 'value too long for type character varying(%)', size USING ERRCODE = 'string_data_right_truncation';
END $$;
CREATE OR REPLACE FUNCTION ~.not_ascii(value text) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    letter text := left(regexp_replace(value, '[[:ascii:]]', '', 'g'), 1);
BEGIN
    RAISE EXCEPTION 'Invalid characters: only ASCII characters are allowed in fixed length strings. Invalid ASCII char: %',
        btrim(regexp_replace(encode(convert_to(letter, 'UTF8'), 'hex'), '(..)', E'\\1 ', 'g')) USING ERRCODE = 'character_not_in_repertoire';
END $$;
-- Implements ALTER TABLE … ALTER COLUMN … TYPE VARCHAR(size): replaces the old size check by a new one.
CREATE OR REPLACE FUNCTION ~.resize(target regclass, col text, size int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    old name;
BEGIN
    FOR old IN
        SELECT conname FROM pg_constraint JOIN pg_attribute ON attrelid = conrelid AND conkey = ARRAY[attnum]
        WHERE conrelid = target AND contype = 'c' AND attname = (parse_ident(col))[1] AND pg_get_constraintdef(pg_constraint.oid) LIKE '%too_long(%'
    LOOP
        EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', target, old);
    END LOOP;
    EXECUTE format('ALTER TABLE %s ALTER COLUMN %s TYPE varchar(%s), ADD CHECK (CASE WHEN octet_length(%s) > %s THEN ~.too_long(%s) ELSE true END)', target, col, size, col, size, size);
END $$;

-- Returns the type of a parameter without its mode, with or without a name before the type. Returns NULL if there is no such type.
CREATE OR REPLACE FUNCTION ~.parameter_type(parameter text) RETURNS oid LANGUAGE plpgsql STABLE AS $$
DECLARE
    found oid;
BEGIN
    BEGIN
        found := to_regtype(parameter);
    EXCEPTION WHEN syntax_error THEN NULL;
    END;
    RETURN coalesce(found, to_regtype(pg_catalog.regexp_replace(parameter, '^("([^"]|"")+"|[^[:space:]]+)[[:space:]]+', '')));
EXCEPTION WHEN syntax_error THEN RETURN NULL;
END $$;
-- Returns the parameters that identify a procedure in PostgreSQL. `parameters` are its input parameters. The last output parameters of a
-- translated procedure are input parameters with a default. If there is no such procedure, returns `parameters`, so that the statement fails
-- with its usual error.
CREATE OR REPLACE FUNCTION ~.signature(routine text, parameters text[]) RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
    path text[] := parse_ident(routine);
    inputs oid[] := '{}';
    parameter text;
    found text;
BEGIN
    FOREACH parameter IN ARRAY parameters LOOP
        inputs := inputs || ~.parameter_type(parameter);
    END LOOP;
    SELECT pg_get_function_identity_arguments(p.oid) INTO found
    FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE p.prokind = 'p' AND p.proname = path[cardinality(path)] AND (p.proargtypes::oid[])[0:p.pronargs - p.pronargdefaults - 1] = inputs
        AND CASE cardinality(path) WHEN 1 THEN pg_function_is_visible(p.oid) ELSE n.nspname = path[cardinality(path) - 1] END
    ORDER BY p.pronargdefaults LIMIT 1;
    RETURN coalesce(found, array_to_string(parameters, ', '));
END $$;

-- Views with the names and columns of Redshift's system views.
CREATE OR REPLACE VIEW ~.pg_table_def AS
    SELECT n.nspname::text AS schemaname, c.relname::text AS tablename, a.attname::text AS "column", format_type(a.atttypid, a.atttypmod) AS type,
        'none'::text AS encoding, false AS distkey, 0 AS sortkey, a.attnotnull AS "notnull"
    FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped AND n.nspname NOT LIKE 'pg!_%' ESCAPE '!' AND n.nspname <> 'information_schema';
CREATE OR REPLACE VIEW ~.svv_tables AS
    SELECT table_catalog::text, table_schema::text, table_name::text, table_type::text, NULL::text AS remarks FROM information_schema.tables;
CREATE OR REPLACE VIEW ~.svv_columns AS
    SELECT table_catalog::text, table_schema::text, table_name::text, column_name::text, ordinal_position::int, column_default::text, is_nullable::text,
        data_type::text, character_maximum_length::int, numeric_precision::int, numeric_scale::int, NULL::text AS remarks
    FROM information_schema.columns;
GRANT SELECT ON ~.pg_table_def, ~.svv_tables, ~.svv_columns TO PUBLIC;
