-- Procedures that load the sales, update their customer keys, and aggregate them. Each runs in one
-- transaction.

-- A sale gets the key of the customer row that was valid at the time of the sale. Key 0 means that the sale
-- has no customer, or an unknown one.
CREATE OR REPLACE PROCEDURE mystore.load_sale(p_cycle INTEGER, p_until TIMESTAMP) AS $$
DECLARE
    v_rows BIGINT;
BEGIN
    DELETE FROM work.sale_keyed;
    INSERT INTO work.sale_keyed
    SELECT sale.ticket_number, sale.item_id, sale.customer_id, COALESCE(dim_customer.customer_key, 0),
           COALESCE(dim_item.item_key, 0), COALESCE(dim_store.store_key, 0), COALESCE(dim_date.date_key, 0),
           sale.sold_at, sale.quantity, sale.net_paid, sale.net_profit
    FROM work.sale
    LEFT JOIN mystore.dim_customer
           ON dim_customer.customer_id = sale.customer_id
          AND sale.sold_at >= dim_customer.valid_from AND sale.sold_at < dim_customer.valid_to
    LEFT JOIN mystore.dim_item ON dim_item.item_id = sale.item_id
    LEFT JOIN mystore.dim_store ON dim_store.store_id = sale.store_id
    LEFT JOIN mystore.dim_date ON dim_date.date_key = CAST(TO_CHAR(sale.sold_at, 'YYYYMMDD') AS INTEGER);

    MERGE INTO mystore.fact_sale USING work.sale_keyed
    ON fact_sale.ticket_number = sale_keyed.ticket_number AND fact_sale.item_id = sale_keyed.item_id
    WHEN MATCHED THEN UPDATE SET
        customer_id = sale_keyed.customer_id, customer_key = sale_keyed.customer_key, item_key = sale_keyed.item_key,
        store_key = sale_keyed.store_key, date_key = sale_keyed.date_key, sold_at = sale_keyed.sold_at,
        quantity = sale_keyed.quantity, net_paid = sale_keyed.net_paid, net_profit = sale_keyed.net_profit
    WHEN NOT MATCHED THEN INSERT
        (ticket_number, item_id, customer_id, customer_key, item_key, store_key, date_key, sold_at, quantity, net_paid,
         net_profit)
        VALUES (sale_keyed.ticket_number, sale_keyed.item_id, sale_keyed.customer_id, sale_keyed.customer_key,
                sale_keyed.item_key, sale_keyed.store_key, sale_keyed.date_key, sale_keyed.sold_at, sale_keyed.quantity,
                sale_keyed.net_paid, sale_keyed.net_profit);
    SELECT INTO v_rows COUNT(*) FROM work.sale_keyed;
    INSERT INTO mystore.audit VALUES (p_cycle, 'load_sale', v_rows, p_until);
END;
$$ LANGUAGE plpgsql;

-- Updates the customer keys of earlier sales: a late change can split a customer's history, and a customer
-- can arrive after the sale.
CREATE OR REPLACE PROCEDURE mystore.rekey_sale(p_cycle INTEGER, p_until TIMESTAMP) AS $$
DECLARE
    v_rows BIGINT;
BEGIN
    DELETE FROM work.sale_rekeyed;
    INSERT INTO work.sale_rekeyed
    SELECT fact_sale.ticket_number, fact_sale.item_id, COALESCE(dim_customer.customer_key, 0)
    FROM mystore.fact_sale
    JOIN (SELECT DISTINCT customer_id FROM work.customer) AS touched ON touched.customer_id = fact_sale.customer_id
    LEFT JOIN mystore.dim_customer
           ON dim_customer.customer_id = fact_sale.customer_id
          AND fact_sale.sold_at >= dim_customer.valid_from AND fact_sale.sold_at < dim_customer.valid_to
    WHERE fact_sale.customer_key <> COALESCE(dim_customer.customer_key, 0);

    UPDATE mystore.fact_sale SET customer_key = sale_rekeyed.customer_key
    FROM work.sale_rekeyed
    WHERE fact_sale.ticket_number = sale_rekeyed.ticket_number AND fact_sale.item_id = sale_rekeyed.item_id;
    GET DIAGNOSTICS v_rows := ROW_COUNT;
    INSERT INTO mystore.audit VALUES (p_cycle, 'rekey_sale', v_rows, p_until);
END;
$$ LANGUAGE plpgsql;

-- Aggregates the sales of each store and day with new sales in this cycle.
CREATE OR REPLACE PROCEDURE mystore.publish_store_day(p_cycle INTEGER, p_until TIMESTAMP) AS $$
DECLARE
    v_rows BIGINT;
BEGIN
    DELETE FROM work.store_day;
    INSERT INTO work.store_day
    SELECT fact_sale.store_key, fact_sale.date_key, COUNT(*), SUM(fact_sale.quantity), SUM(fact_sale.net_paid),
           SUM(fact_sale.net_profit)
    FROM mystore.fact_sale
    JOIN (SELECT DISTINCT store_key, date_key FROM work.sale_keyed) AS touched
      ON touched.store_key = fact_sale.store_key AND touched.date_key = fact_sale.date_key
    GROUP BY fact_sale.store_key, fact_sale.date_key;

    MERGE INTO mystore.store_day USING work.store_day AS sums
    ON store_day.store_key = sums.store_key AND store_day.date_key = sums.date_key
    WHEN MATCHED THEN UPDATE SET
        sales = sums.sales, quantity = sums.quantity, net_paid = sums.net_paid, net_profit = sums.net_profit
    WHEN NOT MATCHED THEN INSERT (store_key, date_key, sales, quantity, net_paid, net_profit)
        VALUES (sums.store_key, sums.date_key, sums.sales, sums.quantity, sums.net_paid, sums.net_profit);
    SELECT INTO v_rows COUNT(*) FROM work.store_day;
    INSERT INTO mystore.audit VALUES (p_cycle, 'publish_store_day', v_rows, p_until);
END;
$$ LANGUAGE plpgsql;
