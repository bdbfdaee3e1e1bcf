-- A small shop: {customers} customers, each with 6 orders and 9 order items, spread by customer.
-- Runs on every shard, and as it is on one plain server for comparison: the table owned_slot
-- says which customers belong here. No randomness, so that all servers agree.

CREATE TABLE countries (
    code text PRIMARY KEY,
    name text NOT NULL
);

CREATE TABLE customers (
    id bigint PRIMARY KEY,
    name text NOT NULL,
    email text NOT NULL,
    country text NOT NULL REFERENCES countries,
    joined_on date NOT NULL,
    balance numeric(12, 2) NOT NULL
);

CREATE TABLE orders (
    customer_id bigint NOT NULL REFERENCES customers,
    id bigint NOT NULL,
    status text NOT NULL,
    placed_at timestamptz NOT NULL,
    total numeric(12, 2),
    PRIMARY KEY (customer_id, id)
);

CREATE TABLE order_items (
    customer_id bigint NOT NULL,
    order_id bigint NOT NULL,
    line integer NOT NULL,
    product text NOT NULL,
    quantity integer NOT NULL,
    price numeric(10, 2) NOT NULL,
    PRIMARY KEY (customer_id, order_id, line),
    FOREIGN KEY (customer_id, order_id) REFERENCES orders
);

INSERT INTO countries VALUES
    ('AT', 'Austria'), ('BR', 'Brazil'), ('DE', 'Germany'), ('ES', 'Spain'), ('FR', 'France'),
    ('IN', 'India'), ('IT', 'Italy'), ('JP', 'Japan'), ('KE', 'Kenya'), ('NZ', 'New Zealand'),
    ('PL', 'Poland'), ('US', 'United States');

-- The slot is the remainder that PARTITION BY HASH (id) with MODULUS 16384 would give.
INSERT INTO customers
SELECT id,
    (ARRAY['Ada', 'Björn', 'Chiara', 'Dmitri', 'Émile', 'Fatima', 'Grace'])[1 + id % 7]
        || ' ' || (ARRAY['Lovelace', 'Ågren', 'Rossi', 'Weiß', 'Zola'])[1 + id / 7 % 5],
    'customer' || id || '@example.com',
    (ARRAY['AT', 'BR', 'DE', 'ES', 'FR', 'IN', 'IT', 'JP', 'KE', 'NZ', 'PL', 'US'])[1 + id * 31 % 12],
    date '2020-01-01' + (id * 7 % 2000)::integer,
    (id * 7919 % 1000000)::numeric / 100
FROM generate_series(1, {customers}) AS id
WHERE ((hashint8extended(id, 8816678312871386365) & 16383) + 10467) & 16383
    IN (SELECT slot FROM owned_slot);

INSERT INTO orders
SELECT customers.id,
    (customers.id - 1) * 6 + n,
    (ARRAY['new', 'paid', 'shipped', 'returned'])[1 + (customers.id + n) % 4],
    timestamptz '2024-01-01 00:00:00+00' + (customers.id * 997 + n * 86400) * interval '1 second',
    CASE WHEN (customers.id + n) % 4 > 0 THEN (customers.id * 131 + n * 977) % 50000 / 100.0 END
FROM customers, generate_series(1, 6) AS n;

INSERT INTO order_items
SELECT customer_id, id, line,
    (ARRAY['anvil', 'bell', 'candle', 'drum', 'easel'])[1 + (id + line) % 5],
    1 + (id * line) % 9,
    (100 + (id * 37 + line * 11) % 9900) / 100.0
FROM orders, generate_series(1, 1 + id % 2) AS line;
