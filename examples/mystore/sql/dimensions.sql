-- Procedures that update the dimensions from the staged rows, one for each dimension. Each runs in one
-- transaction.

CREATE OR REPLACE PROCEDURE mystore.load_date(p_cycle INTEGER, p_until TIMESTAMP) AS $$
DECLARE
    v_rows BIGINT;
BEGIN
    MERGE INTO mystore.dim_date USING work.day ON dim_date.date_key = day.date_key
    WHEN MATCHED THEN UPDATE SET
        day_date = day.day_date, day_name = day.day_name, quarter_name = day.quarter_name, is_holiday = day.is_holiday
    WHEN NOT MATCHED THEN INSERT (date_key, day_date, day_name, quarter_name, is_holiday)
        VALUES (day.date_key, day.day_date, day.day_name, day.quarter_name, day.is_holiday);
    SELECT INTO v_rows COUNT(*) FROM work.day;
    INSERT INTO mystore.audit VALUES (p_cycle, 'load_date', v_rows, p_until);
END;
$$ LANGUAGE plpgsql;

CREATE OR REPLACE PROCEDURE mystore.load_store(p_cycle INTEGER, p_until TIMESTAMP) AS $$
DECLARE
    v_rows BIGINT;
BEGIN
    MERGE INTO mystore.dim_store USING work.store ON dim_store.store_id = store.store_id
    WHEN MATCHED THEN UPDATE SET
        store_name = store.store_name, city = store.city, state = store.state, floor_space = store.floor_space
    WHEN NOT MATCHED THEN INSERT (store_key, store_id, store_name, city, state, floor_space)
        VALUES (store.store_key, store.store_id, store.store_name, store.city, store.state, store.floor_space);
    SELECT INTO v_rows COUNT(*) FROM work.store;
    INSERT INTO mystore.audit VALUES (p_cycle, 'load_store', v_rows, p_until);
END;
$$ LANGUAGE plpgsql;

CREATE OR REPLACE PROCEDURE mystore.load_item(p_cycle INTEGER, p_until TIMESTAMP) AS $$
DECLARE
    v_rows BIGINT;
BEGIN
    MERGE INTO mystore.dim_item USING work.item ON dim_item.item_id = item.item_id
    WHEN MATCHED THEN UPDATE SET
        item_name = item.item_name, brand = item.brand, category = item.category, price = item.price
    WHEN NOT MATCHED THEN INSERT (item_key, item_id, item_name, brand, category, price)
        VALUES (item.item_key, item.item_id, item.item_name, item.brand, item.category, item.price);
    SELECT INTO v_rows COUNT(*) FROM work.item;
    INSERT INTO mystore.audit VALUES (p_cycle, 'load_item', v_rows, p_until);
END;
$$ LANGUAGE plpgsql;

-- Type 1. For each address, keeps the newest change among the staged ones and the row in the dimension.
CREATE OR REPLACE PROCEDURE mystore.load_address(p_cycle INTEGER, p_until TIMESTAMP) AS $$
DECLARE
    v_last BIGINT;
    v_rows BIGINT;
BEGIN
    SELECT INTO v_last COALESCE(MAX(address_key), 0) FROM mystore.dim_address;
    DELETE FROM work.address_newest;
    INSERT INTO work.address_newest
    SELECT v_last + ROW_NUMBER() OVER (ORDER BY ranked.address_id), ranked.is_deleted, ranked.address_datetime,
           ranked.address_id, ranked.street, ranked.city, ranked.county, ranked.state, ranked.zip, ranked.country,
           ranked.location_type
    FROM (SELECT address.*, ROW_NUMBER() OVER (PARTITION BY address_id ORDER BY address_datetime DESC) AS age
          FROM work.address) AS ranked
    LEFT JOIN mystore.dim_address ON dim_address.address_id = ranked.address_id
    WHERE ranked.age = 1
      AND (dim_address.address_id IS NULL OR dim_address.address_datetime < ranked.address_datetime);

    MERGE INTO mystore.dim_address USING work.address_newest ON dim_address.address_id = address_newest.address_id
    WHEN MATCHED THEN UPDATE SET
        is_deleted = address_newest.is_deleted, address_datetime = address_newest.address_datetime,
        street = address_newest.street, city = address_newest.city, county = address_newest.county,
        state = address_newest.state, zip = address_newest.zip, country = address_newest.country,
        location_type = address_newest.location_type
    WHEN NOT MATCHED THEN INSERT
        (address_key, address_id, is_deleted, address_datetime, street, city, county, state, zip, country, location_type)
        VALUES (address_newest.address_key, address_newest.address_id, address_newest.is_deleted,
                address_newest.address_datetime, address_newest.street, address_newest.city, address_newest.county,
                address_newest.state, address_newest.zip, address_newest.country, address_newest.location_type);
    SELECT INTO v_rows COUNT(DISTINCT address_id) FROM work.address;
    INSERT INTO mystore.audit VALUES (p_cycle, 'load_address', v_rows, p_until);
END;
$$ LANGUAGE plpgsql;

-- Type 2 for is_preferred and address_id, type 1 for the other columns. Rebuilds the whole history of each
-- touched customer from all changes ever received, so that the order of their arrival does not matter. Rows
-- that remain valid keep their keys.
CREATE OR REPLACE PROCEDURE mystore.load_customer(p_cycle INTEGER, p_until TIMESTAMP) AS $$
DECLARE
    v_last BIGINT;
    v_rows BIGINT;
BEGIN
    -- Skips changes that were received before. A change is identified by its customer and time.
    INSERT INTO mystore.customer_change
        (customer_id, customer_datetime, is_deleted, salutation, first_name, last_name, is_preferred, birth_country, email,
         address_id)
    SELECT DISTINCT staged.customer_id, staged.customer_datetime, staged.is_deleted, staged.salutation, staged.first_name,
           staged.last_name, staged.is_preferred, staged.birth_country, staged.email, staged.address_id
    FROM work.customer AS staged
    LEFT JOIN mystore.customer_change AS known
           ON known.customer_id = staged.customer_id AND known.customer_datetime = staged.customer_datetime
    WHERE known.customer_id IS NULL;

    SELECT INTO v_last COALESCE(MAX(customer_key), 0) FROM mystore.dim_customer;
    DELETE FROM work.customer_history;
    INSERT INTO work.customer_history
    WITH touched AS (
        SELECT DISTINCT customer_id FROM work.customer
    ), states AS (
        SELECT change.*,
               LAG(change.is_deleted)   OVER (PARTITION BY change.customer_id ORDER BY change.customer_datetime) AS was_deleted,
               LAG(change.is_preferred) OVER (PARTITION BY change.customer_id ORDER BY change.customer_datetime) AS was_preferred,
               LAG(change.address_id)   OVER (PARTITION BY change.customer_id ORDER BY change.customer_datetime) AS old_address_id,
               ROW_NUMBER() OVER (PARTITION BY change.customer_id ORDER BY change.customer_datetime DESC) AS age
        FROM mystore.customer_change AS change
        JOIN touched ON touched.customer_id = change.customer_id
    ), bounds AS (
        SELECT customer_id, customer_datetime, is_deleted, is_preferred, address_id,
               LEAD(customer_datetime) OVER (PARTITION BY customer_id ORDER BY customer_datetime) AS next_datetime
        FROM states
        WHERE was_deleted IS NULL
           OR is_deleted <> was_deleted
           OR (NOT is_deleted AND (is_preferred <> was_preferred OR address_id <> old_address_id))
    )
    SELECT v_last + ROW_NUMBER() OVER (ORDER BY bounds.customer_id, bounds.customer_datetime),
           bounds.customer_id, bounds.customer_datetime,
           COALESCE(bounds.next_datetime, TIMESTAMP '9999-12-31 00:00:00'), bounds.next_datetime IS NULL,
           bounds.is_preferred, bounds.address_id,
           newest.salutation, newest.first_name, newest.last_name, newest.birth_country, newest.email
    FROM bounds
    JOIN states AS newest ON newest.customer_id = bounds.customer_id AND newest.age = 1
    WHERE NOT bounds.is_deleted;

    -- A late change can invalidate the start of an existing row. Such rows are deleted.
    DELETE FROM mystore.dim_customer
    WHERE customer_id IN (SELECT customer_id FROM work.customer)
      AND customer_key NOT IN (
          SELECT kept.customer_key
          FROM mystore.dim_customer AS kept
          JOIN work.customer_history
            ON customer_history.customer_id = kept.customer_id AND customer_history.valid_from = kept.valid_from);

    MERGE INTO mystore.dim_customer USING work.customer_history
    ON dim_customer.customer_id = customer_history.customer_id AND dim_customer.valid_from = customer_history.valid_from
    WHEN MATCHED THEN UPDATE SET
        valid_to = customer_history.valid_to, is_current = customer_history.is_current,
        is_preferred = customer_history.is_preferred, address_id = customer_history.address_id,
        salutation = customer_history.salutation, first_name = customer_history.first_name,
        last_name = customer_history.last_name, birth_country = customer_history.birth_country,
        email = customer_history.email
    WHEN NOT MATCHED THEN INSERT
        (customer_key, customer_id, valid_from, valid_to, is_current, is_preferred, address_id, salutation, first_name,
         last_name, birth_country, email)
        VALUES (customer_history.customer_key, customer_history.customer_id, customer_history.valid_from,
                customer_history.valid_to, customer_history.is_current, customer_history.is_preferred,
                customer_history.address_id, customer_history.salutation, customer_history.first_name,
                customer_history.last_name, customer_history.birth_country, customer_history.email);

    SELECT INTO v_rows COUNT(DISTINCT customer_id) FROM work.customer;
    INSERT INTO mystore.audit VALUES (p_cycle, 'load_customer', v_rows, p_until);
END;
$$ LANGUAGE plpgsql;
