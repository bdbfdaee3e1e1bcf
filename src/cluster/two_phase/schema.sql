-- Tables of schema ringway by which shards commit together.
-- Which shard this is: prepared transactions on other shards name the one that decides by it.
CREATE TABLE IF NOT EXISTS ringway.identity (
    alone boolean PRIMARY KEY DEFAULT true CHECK (alone),
    id text NOT NULL CHECK (id ~ '^[0-9a-f]{32}$')
);
INSERT INTO ringway.identity (id)
    VALUES (replace(gen_random_uuid()::text, '-', '')) ON CONFLICT DO NOTHING;
-- What became of transactions that other shards prepared, as long as any of these may ask.
CREATE TABLE IF NOT EXISTS ringway.decision (
    id text PRIMARY KEY,
    outcome text NOT NULL CHECK (outcome IN ('commit', 'abort')),
    -- Identities of the shards that prepared it; none are known of what was rolled back.
    shards text[] NOT NULL,
    decided_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- The transaction that wrote the row: once none as old is open, no coordinator is under way.
    xact bigint NOT NULL DEFAULT txid_current()
);
-- Processes that commit here, and until when each is taken to be alive.
CREATE TABLE IF NOT EXISTS ringway.coordinator (
    id text PRIMARY KEY,
    expires_at timestamptz NOT NULL
);
