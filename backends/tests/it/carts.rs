//! Carts and their end.

use std::time::Duration;

use headgate_backends::{CART_LIFETIME, Service};
use serde_json::json;

use crate::harness::{query, start};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_cart_is_filled_changed_and_emptied() {
    let (_shop, instance) = start(Service::Carts).await;
    let first = instance
        .put("/carts/42/items/7", json!({ "quantity": 2 }))
        .await
        .expect(201);
    assert_eq!(first.header("cache-control"), Some("private, no-store"));
    let expected = json!({
        "cart_id": "42",
        "items": [{ "product_id": 7, "quantity": 2 }],
        "version": 1,
        "expires_at": "2027-01-15T08:30:00Z",
    });
    assert_eq!(first.json(), expected);
    let read = instance.get("/carts/42").await.expect(200);
    assert_eq!(read.json(), expected);
    assert_eq!(read.header("cache-control"), Some("private, no-store"));

    instance
        .put("/carts/42/items/7", json!({ "quantity": 3 }))
        .await
        .expect(200);
    let addition = json!({ "product_id": 3, "quantity": 1 });
    instance
        .post("/carts/42/items", addition.clone())
        .await
        .expect(200);
    let cart = instance
        .post("/carts/42/items", addition)
        .await
        .expect(200)
        .json();
    let items = json!([{ "product_id": 3, "quantity": 2 }, { "product_id": 7, "quantity": 3 }]);
    assert_eq!((&cart["items"], &cart["version"]), (&items, &json!(4)));

    let cart = instance
        .delete("/carts/42/items/3")
        .await
        .expect(200)
        .json();
    assert_eq!(cart["items"], json!([{ "product_id": 7, "quantity": 3 }]));
    instance.delete("/carts/42/items/3").await.problem(404);
    instance.delete("/carts/42").await.expect(204);
    instance.get("/carts/42").await.problem(404);
    instance.delete("/carts/42").await.problem(404);
    instance.delete("/carts/42/items/7").await.problem(404);
    instance.get("/carts/42").await.problem(404);
}

#[tokio::test]
async fn a_cart_is_named_by_a_number_or_a_token() {
    let (_shop, instance) = start(Service::Carts).await;
    let long = "x".repeat(64);
    for id in ["1", "guest_A-9", long.as_str()] {
        let path = format!("/carts/{id}/items/1");
        instance
            .put(&path, json!({ "quantity": 1 }))
            .await
            .expect(201);
    }
    let longer = "x".repeat(65);
    for id in ["a.b", "a%20b", "%C3%A9", longer.as_str()] {
        let path = format!("/carts/{id}/items/1");
        instance
            .put(&path, json!({ "quantity": 1 }))
            .await
            .problem(400);
    }
    instance
        .put("/carts/1/items/x", json!({ "quantity": 1 }))
        .await
        .problem(400);
    instance
        .put("/carts/1/items/0", json!({ "quantity": 1 }))
        .await
        .problem(400);
}

#[tokio::test]
async fn quantities_and_products_of_a_cart_are_bounded() {
    let (_shop, instance) = start(Service::Carts).await;
    for quantity in [0, -1, 1000] {
        instance
            .put("/carts/1/items/1", json!({ "quantity": quantity }))
            .await
            .problem(422);
    }
    instance.get("/carts/1").await.problem(404);
    instance
        .post(
            "/carts/1/items",
            json!({ "product_id": 1, "quantity": 999 }),
        )
        .await
        .expect(200);
    let one = json!({ "product_id": 1, "quantity": 1 });
    assert_eq!(
        instance.post("/carts/1/items", one).await.problem(409)["quantity"],
        999
    );

    for product in 2..=100 {
        let path = format!("/carts/1/items/{product}");
        instance
            .put(&path, json!({ "quantity": 1 }))
            .await
            .expect(201);
    }
    let before = instance.get("/carts/1").await.expect(200).json();
    instance
        .put("/carts/1/items/101", json!({ "quantity": 1 }))
        .await
        .problem(409);
    assert_eq!(
        instance.get("/carts/1").await.json(),
        before,
        "a refused write changes nothing"
    );
    instance
        .put("/carts/1/items/100", json!({ "quantity": 2 }))
        .await
        .expect(200);
}

#[tokio::test]
async fn a_cart_ends_half_an_hour_after_its_last_write() {
    let (shop, instance) = start(Service::Carts).await;
    instance
        .put("/carts/a/items/1", json!({ "quantity": 1 }))
        .await
        .expect(201);
    shop.pass(CART_LIFETIME - SECOND);
    instance
        .put("/carts/a/items/1", json!({ "quantity": 2 }))
        .await
        .expect(200);
    shop.pass(CART_LIFETIME - SECOND);
    instance.get("/carts/a").await.expect(200);
    shop.pass(SECOND);
    instance.get("/carts/a").await.problem(404);
    instance.delete("/carts/a/items/1").await.problem(404);
    instance.delete("/carts/a").await.problem(404);
}

#[tokio::test]
async fn an_ended_cart_leaves_nothing_to_a_new_one_of_its_name() {
    let (shop, instance) = start(Service::Carts).await;
    instance
        .put("/carts/a/items/1", json!({ "quantity": 1 }))
        .await
        .expect(201);
    shop.pass(CART_LIFETIME);
    let cart = instance
        .put("/carts/a/items/2", json!({ "quantity": 1 }))
        .await
        .expect(201)
        .json();
    assert_eq!(cart["items"], json!([{ "product_id": 2, "quantity": 1 }]));
    assert_eq!(cart["version"], 1);
}

#[tokio::test]
async fn ended_carts_are_swept_by_later_writes() {
    let (shop, instance) = start(Service::Carts).await;
    for id in 0..30 {
        let path = format!("/carts/{id}/items/1");
        instance
            .put(&path, json!({ "quantity": 1 }))
            .await
            .expect(201);
    }
    shop.pass(CART_LIFETIME);
    for _ in 0..2 {
        let addition = json!({ "product_id": 1, "quantity": 1 });
        instance
            .post("/carts/new/items", addition)
            .await
            .expect(200);
    }
    assert_eq!(query(&shop.database(), "SELECT count(*) FROM carts"), 1);
    assert_eq!(
        query(&shop.database(), "SELECT count(*) FROM cart_items"),
        1
    );
}
