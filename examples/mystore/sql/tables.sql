-- Schemas and tables of MyStore's warehouse. This file runs unchanged on Redshift and PostgreSQL. On
-- Redshift, add DISTSTYLE ALL to the dimensions, and DISTKEY (customer_id) SORTKEY (sold_at) to the fact
-- table. Only PostgreSQL enforces primary keys, and nothing here depends on that.

-- landing: rows delivered by the sources. The example fills these tables. With Spectrum, this would be an
-- external schema over the raw files.
CREATE SCHEMA IF NOT EXISTS landing;
-- work: the rows of the current cycle, which the procedures replace in each cycle.
CREATE SCHEMA IF NOT EXISTS work;
-- mystore: the dimensions, the fact table, and the records of the loads.
CREATE SCHEMA IF NOT EXISTS mystore;

CREATE TABLE IF NOT EXISTS landing.customer (
    landed_at         TIMESTAMP   NOT NULL,
    is_deleted        BOOLEAN     NOT NULL,
    customer_datetime TIMESTAMP   NOT NULL,
    customer_id       BIGINT      NOT NULL,
    salutation        VARCHAR(10),
    first_name        VARCHAR(40),
    last_name         VARCHAR(200),
    is_preferred      BOOLEAN     NOT NULL,
    birth_country     VARCHAR(40),
    email             VARCHAR(80),
    address_id        BIGINT      NOT NULL
);

CREATE TABLE IF NOT EXISTS landing.address (
    landed_at        TIMESTAMP   NOT NULL,
    is_deleted       BOOLEAN     NOT NULL,
    address_datetime TIMESTAMP   NOT NULL,
    address_id       BIGINT      NOT NULL,
    street           VARCHAR(80),
    city             VARCHAR(60),
    county           VARCHAR(40),
    state            VARCHAR(2),
    zip              VARCHAR(10),
    country          VARCHAR(40),
    location_type    VARCHAR(20)
);

CREATE TABLE IF NOT EXISTS landing.item (
    landed_at TIMESTAMP    NOT NULL,
    item_id   BIGINT       NOT NULL,
    item_name VARCHAR(60),
    brand     VARCHAR(60),
    category  VARCHAR(60),
    price     DECIMAL(7,2)
);

CREATE TABLE IF NOT EXISTS landing.store (
    landed_at   TIMESTAMP   NOT NULL,
    store_id    BIGINT      NOT NULL,
    store_name  VARCHAR(60),
    city        VARCHAR(60),
    state       VARCHAR(2),
    floor_space BIGINT
);

CREATE TABLE IF NOT EXISTS landing.day (
    landed_at    TIMESTAMP  NOT NULL,
    day_date     DATE       NOT NULL,
    day_name     VARCHAR(9) NOT NULL,
    quarter_name VARCHAR(6) NOT NULL,
    is_holiday   BOOLEAN    NOT NULL
);

CREATE TABLE IF NOT EXISTS landing.sale (
    landed_at     TIMESTAMP    NOT NULL,
    ticket_number BIGINT       NOT NULL,
    item_id       BIGINT       NOT NULL,
    customer_id   BIGINT,
    store_id      BIGINT,
    sold_at       TIMESTAMP    NOT NULL,
    quantity      INTEGER      NOT NULL,
    net_paid      DECIMAL(9,2) NOT NULL,
    net_profit    DECIMAL(9,2) NOT NULL
);

CREATE TABLE IF NOT EXISTS work.customer (
    is_deleted        BOOLEAN     NOT NULL,
    customer_datetime TIMESTAMP   NOT NULL,
    customer_id       BIGINT      NOT NULL,
    salutation        VARCHAR(10),
    first_name        VARCHAR(40),
    last_name         VARCHAR(200),
    is_preferred      BOOLEAN     NOT NULL,
    birth_country     VARCHAR(40),
    email             VARCHAR(80),
    address_id        BIGINT      NOT NULL
);

-- New history of the customers that the cycle touches.
CREATE TABLE IF NOT EXISTS work.customer_history (
    customer_key  BIGINT      NOT NULL,
    customer_id   BIGINT      NOT NULL,
    valid_from    TIMESTAMP   NOT NULL,
    valid_to      TIMESTAMP   NOT NULL,
    is_current    BOOLEAN     NOT NULL,
    is_preferred  BOOLEAN     NOT NULL,
    address_id    BIGINT      NOT NULL,
    salutation    VARCHAR(10),
    first_name    VARCHAR(40),
    last_name     VARCHAR(200),
    birth_country VARCHAR(40),
    email         VARCHAR(80)
);

CREATE TABLE IF NOT EXISTS work.address (
    is_deleted       BOOLEAN     NOT NULL,
    address_datetime TIMESTAMP   NOT NULL,
    address_id       BIGINT      NOT NULL,
    street           VARCHAR(80),
    city             VARCHAR(60),
    county           VARCHAR(40),
    state            VARCHAR(2),
    zip              VARCHAR(10),
    country          VARCHAR(40),
    location_type    VARCHAR(20)
);

-- Newest change of each address that the cycle touches.
CREATE TABLE IF NOT EXISTS work.address_newest (
    address_key      BIGINT      NOT NULL,
    is_deleted       BOOLEAN     NOT NULL,
    address_datetime TIMESTAMP   NOT NULL,
    address_id       BIGINT      NOT NULL,
    street           VARCHAR(80),
    city             VARCHAR(60),
    county           VARCHAR(40),
    state            VARCHAR(2),
    zip              VARCHAR(10),
    country          VARCHAR(40),
    location_type    VARCHAR(20)
);

CREATE TABLE IF NOT EXISTS work.item (
    item_key  BIGINT       NOT NULL,
    item_id   BIGINT       NOT NULL,
    item_name VARCHAR(60),
    brand     VARCHAR(60),
    category  VARCHAR(60),
    price     DECIMAL(7,2)
);

CREATE TABLE IF NOT EXISTS work.store (
    store_key   BIGINT      NOT NULL,
    store_id    BIGINT      NOT NULL,
    store_name  VARCHAR(60),
    city        VARCHAR(60),
    state       VARCHAR(2),
    floor_space BIGINT
);

CREATE TABLE IF NOT EXISTS work.day (
    date_key     INTEGER    NOT NULL,
    day_date     DATE       NOT NULL,
    day_name     VARCHAR(9) NOT NULL,
    quarter_name VARCHAR(6) NOT NULL,
    is_holiday   BOOLEAN    NOT NULL
);

CREATE TABLE IF NOT EXISTS work.sale (
    ticket_number BIGINT       NOT NULL,
    item_id       BIGINT       NOT NULL,
    customer_id   BIGINT,
    store_id      BIGINT,
    sold_at       TIMESTAMP    NOT NULL,
    quantity      INTEGER      NOT NULL,
    net_paid      DECIMAL(9,2) NOT NULL,
    net_profit    DECIMAL(9,2) NOT NULL
);

-- Sales of the cycle, with the keys of the dimensions.
CREATE TABLE IF NOT EXISTS work.sale_keyed (
    ticket_number BIGINT       NOT NULL,
    item_id       BIGINT       NOT NULL,
    customer_id   BIGINT,
    customer_key  BIGINT       NOT NULL,
    item_key      BIGINT       NOT NULL,
    store_key     BIGINT       NOT NULL,
    date_key      INTEGER      NOT NULL,
    sold_at       TIMESTAMP    NOT NULL,
    quantity      INTEGER      NOT NULL,
    net_paid      DECIMAL(9,2) NOT NULL,
    net_profit    DECIMAL(9,2) NOT NULL
);

-- Earlier sales whose customer key changes.
CREATE TABLE IF NOT EXISTS work.sale_rekeyed (
    ticket_number BIGINT NOT NULL,
    item_id       BIGINT NOT NULL,
    customer_key  BIGINT NOT NULL
);

CREATE TABLE IF NOT EXISTS work.store_day (
    store_key  BIGINT        NOT NULL,
    date_key   INTEGER       NOT NULL,
    sales      BIGINT        NOT NULL,
    quantity   BIGINT        NOT NULL,
    net_paid   DECIMAL(18,2) NOT NULL,
    net_profit DECIMAL(18,2) NOT NULL
);

-- All customer changes ever received, without duplicates. A late change needs the changes before and after
-- it.
CREATE TABLE IF NOT EXISTS mystore.customer_change (
    customer_id       BIGINT      NOT NULL,
    customer_datetime TIMESTAMP   NOT NULL,
    is_deleted        BOOLEAN     NOT NULL,
    salutation        VARCHAR(10),
    first_name        VARCHAR(40),
    last_name         VARCHAR(200),
    is_preferred      BOOLEAN     NOT NULL,
    birth_country     VARCHAR(40),
    email             VARCHAR(80),
    address_id        BIGINT      NOT NULL,
    PRIMARY KEY (customer_id, customer_datetime)
);

-- Customers. is_preferred and address_id keep history (type 2), and the other columns have the newest value
-- (type 1). A row is valid from valid_from until just before valid_to. The row with key 0 represents unknown
-- customers.
CREATE TABLE IF NOT EXISTS mystore.dim_customer (
    customer_key  BIGINT      NOT NULL,
    customer_id   BIGINT      NOT NULL,
    valid_from    TIMESTAMP   NOT NULL,
    valid_to      TIMESTAMP   NOT NULL,
    is_current    BOOLEAN     NOT NULL,
    is_preferred  BOOLEAN     NOT NULL,
    address_id    BIGINT      NOT NULL,
    salutation    VARCHAR(10),
    first_name    VARCHAR(40),
    last_name     VARCHAR(200),
    birth_country VARCHAR(40),
    email         VARCHAR(80),
    PRIMARY KEY (customer_id, valid_from)
);

-- Addresses in their newest state (type 1). A deleted address remains, with is_deleted set, so that a late
-- change cannot bring it back.
CREATE TABLE IF NOT EXISTS mystore.dim_address (
    address_key      BIGINT      NOT NULL,
    address_id       BIGINT      NOT NULL,
    is_deleted       BOOLEAN     NOT NULL,
    address_datetime TIMESTAMP   NOT NULL,
    street           VARCHAR(80),
    city             VARCHAR(60),
    county           VARCHAR(40),
    state            VARCHAR(2),
    zip              VARCHAR(10),
    country          VARCHAR(40),
    location_type    VARCHAR(20),
    PRIMARY KEY (address_id)
);

CREATE TABLE IF NOT EXISTS mystore.dim_item (
    item_key  BIGINT       NOT NULL,
    item_id   BIGINT       NOT NULL,
    item_name VARCHAR(60),
    brand     VARCHAR(60),
    category  VARCHAR(60),
    price     DECIMAL(7,2),
    PRIMARY KEY (item_id)
);

CREATE TABLE IF NOT EXISTS mystore.dim_store (
    store_key   BIGINT      NOT NULL,
    store_id    BIGINT      NOT NULL,
    store_name  VARCHAR(60),
    city        VARCHAR(60),
    state       VARCHAR(2),
    floor_space BIGINT,
    PRIMARY KEY (store_id)
);

CREATE TABLE IF NOT EXISTS mystore.dim_date (
    date_key     INTEGER    NOT NULL,
    day_date     DATE       NOT NULL,
    day_name     VARCHAR(9) NOT NULL,
    quarter_name VARCHAR(6) NOT NULL,
    is_holiday   BOOLEAN    NOT NULL,
    PRIMARY KEY (date_key)
);

-- One row for each line of a sales slip.
CREATE TABLE IF NOT EXISTS mystore.fact_sale (
    ticket_number BIGINT       NOT NULL,
    item_id       BIGINT       NOT NULL,
    customer_id   BIGINT,
    customer_key  BIGINT       NOT NULL,
    item_key      BIGINT       NOT NULL,
    store_key     BIGINT       NOT NULL,
    date_key      INTEGER      NOT NULL,
    sold_at       TIMESTAMP    NOT NULL,
    quantity      INTEGER      NOT NULL,
    net_paid      DECIMAL(9,2) NOT NULL,
    net_profit    DECIMAL(9,2) NOT NULL,
    PRIMARY KEY (ticket_number, item_id)
);

-- Sales by store and day, for the reports.
CREATE TABLE IF NOT EXISTS mystore.store_day (
    store_key  BIGINT        NOT NULL,
    date_key   INTEGER       NOT NULL,
    sales      BIGINT        NOT NULL,
    quantity   BIGINT        NOT NULL,
    net_paid   DECIMAL(18,2) NOT NULL,
    net_profit DECIMAL(18,2) NOT NULL,
    PRIMARY KEY (store_key, date_key)
);

-- Time up to which the rows of each source have been staged.
CREATE TABLE IF NOT EXISTS mystore.high_water (
    source       VARCHAR(20) NOT NULL,
    landed_until TIMESTAMP   NOT NULL,
    PRIMARY KEY (source)
);

-- One row for each execution of a procedure, written in its transaction. The table deliberately has no key,
-- so that a procedure that ran twice has two rows.
CREATE TABLE IF NOT EXISTS mystore.audit (
    cycle          INTEGER     NOT NULL,
    procedure_name VARCHAR(40) NOT NULL,
    affected_rows  BIGINT      NOT NULL,
    business_time  TIMESTAMP   NOT NULL
);

INSERT INTO mystore.high_water
SELECT source, TIMESTAMP '1900-01-01 00:00:00'
FROM (SELECT 'customer' AS source UNION ALL SELECT 'address' UNION ALL SELECT 'item'
      UNION ALL SELECT 'store' UNION ALL SELECT 'day' UNION ALL SELECT 'sale') AS sources
WHERE NOT EXISTS (SELECT 1 FROM mystore.high_water);

INSERT INTO mystore.dim_customer (customer_key, customer_id, valid_from, valid_to, is_current, is_preferred, address_id)
SELECT 0, 0, TIMESTAMP '1900-01-01 00:00:00', TIMESTAMP '9999-12-31 00:00:00', TRUE, FALSE, 0
WHERE NOT EXISTS (SELECT 1 FROM mystore.dim_customer);

INSERT INTO mystore.dim_store (store_key, store_id, store_name)
SELECT 0, 0, 'unknown'
WHERE NOT EXISTS (SELECT 1 FROM mystore.dim_store);
