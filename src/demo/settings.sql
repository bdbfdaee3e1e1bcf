-- Lives on one shard only.
CREATE TABLE settings (
    name text PRIMARY KEY,
    value text NOT NULL
);
INSERT INTO settings VALUES ('currency', 'EUR'), ('motto', 'sold as seen'), ('tax', '0.19');
