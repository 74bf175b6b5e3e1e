-- Procedures that stage the rows which landed since the previous cycle and advance the source's high-water
-- mark. Each runs in one transaction. Work tables are emptied with DELETE: on Redshift TRUNCATE commits, so
-- the procedure would no longer be atomic.

CREATE OR REPLACE PROCEDURE mystore.stage_customer(p_cycle INTEGER, p_until TIMESTAMP) AS $$
DECLARE
    v_since TIMESTAMP;
    v_rows  BIGINT;
BEGIN
    SELECT INTO v_since landed_until FROM mystore.high_water WHERE source = 'customer';
    DELETE FROM work.customer;
    INSERT INTO work.customer
    SELECT is_deleted, customer_datetime, customer_id, salutation, first_name, last_name, is_preferred, birth_country, email,
           address_id
    FROM landing.customer
    WHERE landed_at > v_since AND landed_at <= p_until;
    GET DIAGNOSTICS v_rows := ROW_COUNT;
    UPDATE mystore.high_water SET landed_until = p_until WHERE source = 'customer';
    INSERT INTO mystore.audit VALUES (p_cycle, 'stage_customer', v_rows, p_until);
END;
$$ LANGUAGE plpgsql;

CREATE OR REPLACE PROCEDURE mystore.stage_address(p_cycle INTEGER, p_until TIMESTAMP) AS $$
DECLARE
    v_since TIMESTAMP;
    v_rows  BIGINT;
BEGIN
    SELECT INTO v_since landed_until FROM mystore.high_water WHERE source = 'address';
    DELETE FROM work.address;
    INSERT INTO work.address
    SELECT is_deleted, address_datetime, address_id, street, city, county, state, zip, country, location_type
    FROM landing.address
    WHERE landed_at > v_since AND landed_at <= p_until;
    GET DIAGNOSTICS v_rows := ROW_COUNT;
    UPDATE mystore.high_water SET landed_until = p_until WHERE source = 'address';
    INSERT INTO mystore.audit VALUES (p_cycle, 'stage_address', v_rows, p_until);
END;
$$ LANGUAGE plpgsql;

-- Items, stores and days, which are small tables. New rows get the keys that follow the highest existing key.
CREATE OR REPLACE PROCEDURE mystore.stage_reference(p_cycle INTEGER, p_until TIMESTAMP) AS $$
DECLARE
    v_since TIMESTAMP;
    v_last  BIGINT;
    v_rows  BIGINT;
    v_all   BIGINT;
BEGIN
    SELECT INTO v_since landed_until FROM mystore.high_water WHERE source = 'item';
    SELECT INTO v_last COALESCE(MAX(item_key), 0) FROM mystore.dim_item;
    DELETE FROM work.item;
    INSERT INTO work.item
    SELECT v_last + ROW_NUMBER() OVER (ORDER BY item_id), item_id, item_name, brand, category, price
    FROM landing.item
    WHERE landed_at > v_since AND landed_at <= p_until;
    GET DIAGNOSTICS v_all := ROW_COUNT;

    SELECT INTO v_since landed_until FROM mystore.high_water WHERE source = 'store';
    SELECT INTO v_last COALESCE(MAX(store_key), 0) FROM mystore.dim_store;
    DELETE FROM work.store;
    INSERT INTO work.store
    SELECT v_last + ROW_NUMBER() OVER (ORDER BY store_id), store_id, store_name, city, state, floor_space
    FROM landing.store
    WHERE landed_at > v_since AND landed_at <= p_until;
    GET DIAGNOSTICS v_rows := ROW_COUNT;
    v_all := v_all + v_rows;

    SELECT INTO v_since landed_until FROM mystore.high_water WHERE source = 'day';
    DELETE FROM work.day;
    INSERT INTO work.day
    SELECT CAST(TO_CHAR(day_date, 'YYYYMMDD') AS INTEGER), day_date, day_name, quarter_name, is_holiday
    FROM landing.day
    WHERE landed_at > v_since AND landed_at <= p_until;
    GET DIAGNOSTICS v_rows := ROW_COUNT;
    v_all := v_all + v_rows;

    UPDATE mystore.high_water SET landed_until = p_until WHERE source IN ('item', 'store', 'day');
    INSERT INTO mystore.audit VALUES (p_cycle, 'stage_reference', v_all, p_until);
END;
$$ LANGUAGE plpgsql;

CREATE OR REPLACE PROCEDURE mystore.stage_sale(p_cycle INTEGER, p_until TIMESTAMP) AS $$
DECLARE
    v_since TIMESTAMP;
    v_rows  BIGINT;
BEGIN
    SELECT INTO v_since landed_until FROM mystore.high_water WHERE source = 'sale';
    DELETE FROM work.sale;
    INSERT INTO work.sale
    SELECT ticket_number, item_id, customer_id, store_id, sold_at, quantity, net_paid, net_profit
    FROM landing.sale
    WHERE landed_at > v_since AND landed_at <= p_until;
    GET DIAGNOSTICS v_rows := ROW_COUNT;
    UPDATE mystore.high_water SET landed_until = p_until WHERE source = 'sale';
    INSERT INTO mystore.audit VALUES (p_cycle, 'stage_sale', v_rows, p_until);
END;
$$ LANGUAGE plpgsql;
