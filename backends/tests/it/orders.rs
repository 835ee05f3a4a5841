//! Orders of users.

use std::time::Duration;

use headgate_backends::Service;
use serde_json::{Value, json};

use crate::harness::{Answer, Instance, Shop, query, start};

fn order() -> Value {
    json!({ "items": [
        { "product_id": 1, "quantity": 2, "unit_price_cents": 1250 },
        { "product_id": 5, "quantity": 1, "unit_price_cents": 2900 },
    ] })
}

async fn placed(instance: &Instance, user: i64) -> String {
    let answer = instance
        .post(&format!("/users/{user}/orders"), order())
        .await
        .expect(201);
    answer.header("location").unwrap().to_owned()
}

async fn with_key(instance: &Instance, user: i64, key: &str, order: Value) -> Answer {
    let headers = [("idempotency-key", key)];
    instance
        .send(
            "POST",
            &format!("/users/{user}/orders"),
            &headers,
            Some(order),
        )
        .await
}

#[tokio::test]
async fn an_order_is_placed_and_read_by_its_user_alone() {
    let (_shop, instance) = start(Service::Orders).await;
    let answer = instance.post("/users/7/orders", order()).await.expect(201);
    assert_eq!(answer.header("cache-control"), Some("private, no-store"));
    let placed = answer.json();
    assert_eq!(placed["user_id"], 7);
    assert_eq!(placed["status"], "pending");
    assert_eq!(placed["currency"], "EUR");
    assert_eq!(placed["total_cents"], 5400);
    assert_eq!(placed["items"], order()["items"]);

    let path = answer.header("location").unwrap();
    let id = placed["id"].as_str().unwrap();
    assert_eq!(path, format!("/users/7/orders/{id}"));
    let read = instance.get(path).await.expect(200);
    assert_eq!(read.json(), placed);
    assert_eq!(read.header("cache-control"), Some("private, no-store"));
    assert_eq!(read.header("etag"), answer.header("etag"));
    let known = [("if-none-match", read.header("etag").unwrap())];
    instance.send("GET", path, &known, None).await.expect(304);
    instance
        .get(&format!("/users/8/orders/{id}"))
        .await
        .problem(404);
    let pay = json!({ "status": "paid" });
    instance
        .patch(&format!("/users/8/orders/{id}"), pay)
        .await
        .problem(404);
    instance.get("/users/7/orders/1").await.problem(400);
    instance.get("/users/-7/orders").await.problem(400);
    instance.get("/users/ada/orders").await.problem(400);
}

#[tokio::test]
async fn an_order_out_of_bounds_is_refused() {
    let (shop, instance) = start(Service::Orders).await;
    let item = |field: &str, value: i64| {
        let mut order = order();
        order["items"][1][field] = value.into();
        order
    };
    let many = vec![order()["items"][0].clone(); 101];
    for broken in [
        json!({}),
        json!({ "items": [] }),
        json!({ "items": many }),
        item("product_id", 0),
        item("quantity", 0),
        item("quantity", 1001),
        item("unit_price_cents", -1),
        item("discount", 1),
        json!({ "items": order()["items"], "currency": "euro" }),
        json!({ "items": order()["items"], "status": "paid" }),
    ] {
        instance.post("/users/7/orders", broken).await.problem(422);
    }
    assert_eq!(query(&shop.database(), "SELECT count(*) FROM orders"), 0);
}

#[tokio::test]
async fn a_status_follows_its_path_and_no_other() {
    let (_shop, instance) = start(Service::Orders).await;
    let path = placed(&instance, 7).await;
    let become_ = async |status: &str| instance.patch(&path, json!({ "status": status })).await;
    become_("delivered").await.problem(409);
    for (version, status) in [(2, "paid"), (3, "shipped"), (4, "delivered")] {
        let order = become_(status).await.expect(200).json();
        assert_eq!(
            (&order["status"], &order["version"]),
            (&json!(status), &json!(version))
        );
    }
    assert_eq!(
        become_("cancelled").await.problem(409)["order_status"],
        "delivered"
    );
    become_("lost").await.problem(422);
    assert_eq!(instance.get(&path).await.json()["status"], "delivered");

    let other = placed(&instance, 7).await;
    instance
        .patch(&other, json!({ "status": "cancelled" }))
        .await
        .expect(200);
    instance
        .patch(&other, json!({ "status": "paid" }))
        .await
        .problem(409);
}

#[tokio::test]
async fn a_change_of_an_old_version_is_refused() {
    let (_shop, instance) = start(Service::Orders).await;
    let path = placed(&instance, 7).await;
    let etag = instance.get(&path).await.header("etag").unwrap().to_owned();
    let known = [("if-match", etag.as_str())];
    let pay = json!({ "status": "paid" });
    let paid = instance
        .send("PATCH", &path, &known, Some(pay))
        .await
        .expect(200);
    assert_ne!(paid.header("etag"), Some(etag.as_str()));
    let cancel = json!({ "status": "cancelled" });
    instance
        .send("PATCH", &path, &known, Some(cancel))
        .await
        .problem(412);
}

#[tokio::test]
async fn orders_are_listed_newest_first_in_pages() {
    let (_shop, instance) = start(Service::Orders).await;
    let mut paths = Vec::new();
    for _ in 0..5 {
        paths.push(placed(&instance, 7).await);
    }
    placed(&instance, 8).await;
    paths.reverse();

    let mut listed = Vec::new();
    let mut path = "/users/7/orders?limit=2".to_owned();
    loop {
        let answer = instance.get(&path).await.expect(200);
        assert_eq!(answer.header("cache-control"), Some("private, no-store"));
        let page = answer.json();
        for order in page["orders"].as_array().unwrap() {
            assert_eq!(order["items"].as_array().unwrap().len(), 2);
            listed.push(format!("/users/7/orders/{}", order["id"].as_str().unwrap()));
        }
        let Some(after) = page["next_after"].as_str() else {
            break;
        };
        path = format!("/users/7/orders?limit=2&after={after}");
    }
    assert_eq!(listed, paths);
    let none = instance.get("/users/9/orders").await.expect(200).json();
    assert_eq!(none["orders"], json!([]));
    instance.get("/users/7/orders?after=1").await.problem(400);
}

#[tokio::test]
async fn a_retry_with_its_key_gets_the_first_answer_and_places_nothing() {
    let (shop, instance) = start(Service::Orders).await;
    let first = with_key(&instance, 7, "k-1", order()).await.expect(201);
    assert_eq!(first.header("idempotent-replayed"), None);
    instance
        .patch(
            first.header("location").unwrap(),
            json!({ "status": "paid" }),
        )
        .await
        .expect(200);

    let again = with_key(&instance, 7, "\"k-1\"", order()).await.expect(201);
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(again.body, first.body);
    for name in ["location", "etag", "content-type", "cache-control"] {
        assert_eq!(again.header(name), first.header(name), "{name}");
    }
    let mut other = order();
    other["items"][0]["quantity"] = 3.into();
    with_key(&instance, 7, "k-1", other).await.problem(422);
    assert_eq!(query(&shop.database(), "SELECT count(*) FROM orders"), 1);

    let theirs = with_key(&instance, 8, "k-1", order()).await.expect(201);
    assert_eq!(
        theirs.header("idempotent-replayed"),
        None,
        "a key belongs to its user"
    );
    with_key(&instance, 7, "", order()).await.problem(400);
    with_key(&instance, 7, &"k".repeat(256), order())
        .await
        .problem(400);
    let twice = [("idempotency-key", "a"), ("idempotency-key", "b")];
    instance
        .send("POST", "/users/7/orders", &twice, Some(order()))
        .await
        .problem(400);
}

#[tokio::test]
async fn equal_requests_at_once_place_one_order() {
    let shop = Shop::new(Service::Orders);
    let (one, two) = tokio::join!(shop.start("orders-0a"), shop.start("orders-0b"));
    let (a, b, c, d) = tokio::join!(
        with_key(&one, 7, "k", order()),
        with_key(&two, 7, "k", order()),
        with_key(&one, 7, "k", order()),
        with_key(&two, 7, "k", order()),
    );
    let answers = [a, b, c, d].map(|answer| answer.expect(201));
    let fresh = answers
        .iter()
        .filter(|a| a.header("idempotent-replayed").is_none())
        .count();
    assert_eq!(fresh, 1);
    assert!(answers.iter().all(|answer| answer.body == answers[0].body));
    assert_eq!(query(&shop.database(), "SELECT count(*) FROM orders"), 1);
}

#[tokio::test]
async fn a_key_is_forgotten_after_a_day() {
    let (shop, instance) = start(Service::Orders).await;
    let first = with_key(&instance, 7, "k", order()).await.expect(201);
    shop.pass(Duration::from_secs(24 * 60 * 60));
    let later = with_key(&instance, 7, "k", order()).await.expect(201);
    assert_ne!(later.header("location"), first.header("location"));
    with_key(&instance, 7, "l", order()).await.expect(201);
    shop.pass(Duration::from_secs(24 * 60 * 60));
    with_key(&instance, 7, "m", order()).await.expect(201);
    assert_eq!(
        query(&shop.database(), "SELECT count(*) FROM idempotency_keys"),
        1
    );
}
