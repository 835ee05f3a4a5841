CREATE TABLE users (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    email         TEXT    NOT NULL UNIQUE,
    password_hash TEXT    NOT NULL,
    created_at    INTEGER NOT NULL
) STRICT;

-- The one key that signs access tokens; the first process to start makes it.
CREATE TABLE signing_key (
    only       INTEGER PRIMARY KEY CHECK (only = 1),
    pkcs8      BLOB    NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;
