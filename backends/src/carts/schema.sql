CREATE TABLE carts (
    cart_id    TEXT    PRIMARY KEY,
    version    INTEGER NOT NULL DEFAULT 1,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX carts_by_expiry ON carts (expires_at);

CREATE TABLE cart_items (
    cart_id    TEXT    NOT NULL REFERENCES carts (cart_id) ON DELETE CASCADE,
    product_id INTEGER NOT NULL,
    quantity   INTEGER NOT NULL CHECK (quantity BETWEEN 1 AND 999),
    PRIMARY KEY (cart_id, product_id)
) STRICT, WITHOUT ROWID;
