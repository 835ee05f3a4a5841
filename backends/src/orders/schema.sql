-- Ids are UUIDs of version 7: unique across shards, and in the order of their making.
CREATE TABLE orders (
    id          TEXT    PRIMARY KEY,
    user_id     INTEGER NOT NULL,
    status      TEXT    NOT NULL CHECK (status IN ('pending', 'paid', 'shipped', 'delivered', 'cancelled')),
    currency    TEXT    NOT NULL,
    note        TEXT,
    total_cents INTEGER NOT NULL CHECK (total_cents >= 0),
    version     INTEGER NOT NULL DEFAULT 1,
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX orders_by_user ON orders (user_id, id);

CREATE TABLE order_items (
    order_id         TEXT    NOT NULL REFERENCES orders (id) ON DELETE CASCADE,
    position         INTEGER NOT NULL,
    product_id       INTEGER NOT NULL,
    quantity         INTEGER NOT NULL CHECK (quantity > 0),
    unit_price_cents INTEGER NOT NULL CHECK (unit_price_cents >= 0),
    PRIMARY KEY (order_id, position)
) STRICT, WITHOUT ROWID;

-- Answers to be given again. `request` is the SHA-256 of what was asked.
CREATE TABLE idempotency_keys (
    user_id    INTEGER NOT NULL,
    key        TEXT    NOT NULL,
    request    BLOB    NOT NULL,
    order_id   TEXT    NOT NULL,
    answer     TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (user_id, key)
) STRICT;
CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at);
