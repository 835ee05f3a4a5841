-- The catalogue. AUTOINCREMENT: an id is never given out twice, so an entity tag never means two things.
CREATE TABLE products (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    name        TEXT    NOT NULL,
    description TEXT    NOT NULL,
    category    TEXT    NOT NULL,
    price_cents INTEGER NOT NULL CHECK (price_cents >= 0),
    version     INTEGER NOT NULL DEFAULT 1,
    updated_at  INTEGER NOT NULL
) STRICT;
CREATE INDEX products_by_category ON products (category, id);

-- Apart from the catalogue, so that a sale does not change what caches hold of a product.
CREATE TABLE stock (
    product_id INTEGER PRIMARY KEY REFERENCES products (id) ON DELETE CASCADE,
    quantity   INTEGER NOT NULL CHECK (quantity >= 0),
    version    INTEGER NOT NULL DEFAULT 1
) STRICT;

-- Every change of stock; outlives the product. The deltas of a product add up to its quantity.
CREATE TABLE stock_events (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    product_id INTEGER NOT NULL,
    delta      INTEGER NOT NULL,
    quantity   INTEGER NOT NULL,
    version    INTEGER NOT NULL,
    reason     TEXT    NOT NULL,
    at         INTEGER NOT NULL
) STRICT;
CREATE INDEX stock_events_by_product ON stock_events (product_id, id);

-- What the demo shows.
INSERT OR IGNORE INTO products (id, name, description, category, price_cents, updated_at) VALUES
    (1,  'Field notebook',   'Dotted pages, sewn binding, lies flat.',            'stationery', 1250, 1735689600),
    (2,  'Brass pen',        'Refillable ballpoint with a hexagonal barrel.',     'stationery', 3900, 1735689600),
    (3,  'Pencil set',       'Twelve cedar pencils from 4H to 6B.',               'stationery', 1600, 1735689600),
    (4,  'Enamel mug',       'Holds 350 ml and survives a campfire.',             'kitchen',    1400, 1735689600),
    (5,  'Moka pot',         'Three cups, aluminium, for gas and electric.',      'kitchen',    2900, 1735689600),
    (6,  'Chef''s knife',    'Carbon steel, 20 cm, walnut handle.',               'kitchen',    8900, 1735689600),
    (7,  'Wool blanket',     'Undyed merino, 140 by 200 cm.',                     'home',       9900, 1735689600),
    (8,  'Desk lamp',        'Warm light, adjustable arm, replaceable bulb.',     'home',       5400, 1735689600),
    (9,  'Linen curtain',    'Half transparent, 140 by 250 cm.',                  'home',       4500, 1735689600),
    (10, 'Canvas rucksack',  'Waxed cotton, 18 litres, fits a small laptop.',     'outdoors',  11900, 1735689600),
    (11, 'Steel bottle',     'Keeps 750 ml hot for twelve hours.',                'outdoors',   2700, 1735689600),
    (12, 'Folding saw',      'Pull blade, 21 cm, locks open and shut.',           'outdoors',   3300, 1735689600);
INSERT OR IGNORE INTO stock (product_id, quantity) SELECT id, 25 FROM products;
INSERT INTO stock_events (product_id, delta, quantity, version, reason, at)
    SELECT product_id, quantity, quantity, version, 'created', 1735689600 FROM stock;
