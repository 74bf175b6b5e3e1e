-- MyStore's warehouse: schemas and tables. Redshift and PostgreSQL both run this file unchanged.
-- On Redshift add DISTSTYLE ALL to the dimensions, and DISTKEY (customer_id) SORTKEY (sold_at) to the fact.
-- Only PostgreSQL enforces primary keys; nothing here depends on that.

-- landing: rows delivered by the source systems. Here the example fills it; with Spectrum it is an external
-- schema over the raw files.
CREATE SCHEMA IF NOT EXISTS landing;
-- work: the working set of a cycle. Emptied and filled by the procedures.
CREATE SCHEMA IF NOT EXISTS work;
-- mystore: the dimensions, the fact, and the records of loading them.
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

-- The expected history of the customers that a cycle touches.
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

-- The newest change of each address that a cycle touches.
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

-- The sales of a cycle with the keys of the dimensions.
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

-- Earlier sales that now belong to a different row of the customer dimension.
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

-- Every customer change that was received, once. A late change needs the changes before and after it.
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

-- Customers. is_preferred and address_id keep history (type 2); the other columns hold the newest value (type
-- 1). A row is valid from valid_from until before valid_to; the row with key 0 represents unknown customers.
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

-- Addresses, always in their newest state (type 1). A deleted row remains, with is_deleted set, so that a
-- late change cannot restore it.
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

-- One row per line of a sales slip.
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

-- The time up to which each source was staged.
CREATE TABLE IF NOT EXISTS mystore.high_water (
    source       VARCHAR(20) NOT NULL,
    landed_until TIMESTAMP   NOT NULL,
    PRIMARY KEY (source)
);

-- The result of each procedure, written in the procedure's own transaction. The table deliberately has no
-- key, so that a procedure that ran twice shows up here.
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
