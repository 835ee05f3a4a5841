//! The catalogue and its stock.

use headgate_backends::Service;
use serde_json::{Value, json};

use crate::harness::{Instance, Shop, query, start};

fn lamp() -> Value {
    json!({ "name": "Lamp", "description": "Bright.", "category": "home", "price_cents": 2500 })
}

/// The path of a product that was just made.
async fn made(instance: &Instance, product: Value) -> String {
    let answer = instance.post("/products", product).await.expect(201);
    answer.header("location").unwrap().to_owned()
}

fn names(page: &Value) -> Vec<&str> {
    let products = page["products"].as_array().unwrap();
    products
        .iter()
        .map(|product| product["name"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn a_product_is_made_read_replaced_amended_and_deleted() {
    let (_shop, instance) = start(Service::Products).await;
    let answer = instance.post("/products", lamp()).await.expect(201);
    let product = answer.json();
    let path = answer.header("location").unwrap().to_owned();
    assert_eq!(path, format!("/products/{}", product["id"]));
    assert_eq!(product["version"], 1);
    assert_eq!(product["updated_at"], "2027-01-15T08:00:00Z");
    assert_eq!(instance.get(&path).await.expect(200).json(), product);

    let mut brighter = lamp();
    brighter["description"] = "Brighter.".into();
    let replaced = instance.put(&path, brighter).await.expect(200).json();
    assert_eq!(
        (&replaced["description"], &replaced["version"]),
        (&json!("Brighter."), &json!(2))
    );

    let amended = instance
        .patch(&path, json!({ "price_cents": 1 }))
        .await
        .expect(200)
        .json();
    assert_eq!(
        (&amended["price_cents"], &amended["version"]),
        (&json!(1), &json!(3))
    );
    assert_eq!(amended["description"], "Brighter.");
    let same = instance
        .patch(&path, json!({ "price_cents": 1 }))
        .await
        .expect(200)
        .json();
    assert_eq!(same["version"], 3);
    assert_eq!(instance.get(&path).await.expect(200).json(), amended);

    instance.delete(&path).await.expect(204);
    instance.get(&path).await.problem(404);
    instance.get(&format!("{path}/stock")).await.problem(404);
    instance.delete(&path).await.problem(404);
    instance.put(&path, lamp()).await.problem(404);
    instance.patch(&path, json!({})).await.problem(404);
    assert_ne!(made(&instance, lamp()).await, path, "an id is used once");
}

#[tokio::test]
async fn a_product_out_of_bounds_is_refused_with_the_field_that_is() {
    let (_shop, instance) = start(Service::Products).await;
    for (field, value) in [
        ("name", json!("")),
        ("name", json!("x".repeat(201))),
        ("category", json!("Home & Garden")),
        ("price_cents", json!(-1)),
        ("price_cents", json!("10")),
        ("stock", json!(-1)),
    ] {
        let mut product = lamp();
        product[field] = value.clone();
        instance.post("/products", product).await.problem(422);
        let problem = instance
            .patch("/products/1", json!({ field: value }))
            .await
            .problem(422);
        assert!(
            problem["detail"].as_str().unwrap().contains(field),
            "{problem}"
        );
    }
    instance
        .post("/products", json!({ "name": "Lamp" }))
        .await
        .problem(422);
    instance
        .put("/products/1", json!({ "name": "Lamp" }))
        .await
        .problem(422);
    instance
        .patch("/products/1", json!({ "name": null }))
        .await
        .problem(422);
    instance.get("/products/one").await.problem(400);
}

#[tokio::test]
async fn answers_say_what_shared_caches_may_keep_and_writes_what_they_outdate() {
    let (_shop, instance) = start(Service::Products).await;
    let one = instance.get("/products/3").await.expect(200);
    assert_eq!(
        one.header("cache-control"),
        Some("public, max-age=0, s-maxage=300")
    );
    assert_eq!(one.header("etag"), Some("\"p-3-v1\""));
    assert_eq!(one.header("cache-groups"), Some("\"product-3\""));
    for path in ["/products", "/products?q=pen", "/products/categories"] {
        let list = instance.get(path).await.expect(200);
        assert_eq!(
            list.header("cache-control"),
            Some("public, max-age=0, s-maxage=30")
        );
        assert_eq!(list.header("cache-groups"), Some("\"products\""));
    }
    let stock = instance.get("/products/3/stock").await.expect(200);
    assert_eq!(stock.header("cache-control"), Some("no-store"));

    let written = instance
        .patch("/products/3", json!({ "price_cents": 7 }))
        .await
        .expect(200);
    assert_eq!(written.header("cache-control"), Some("no-store"));
    assert_eq!(written.header("etag"), Some("\"p-3-v2\""));
    let outdated = Some("\"product-3\", \"products\"");
    assert_eq!(written.header("cache-group-invalidation"), outdated);
    let deleted = instance.delete("/products/3").await.expect(204);
    assert_eq!(deleted.header("cache-group-invalidation"), outdated);
}

#[tokio::test]
async fn a_known_version_is_not_sent_again() {
    let (_shop, instance) = start(Service::Products).await;
    let known = [("if-none-match", "\"x\", W/\"p-1-v1\"")];
    let answer = instance
        .send("GET", "/products/1", &known, None)
        .await
        .expect(304);
    assert!(answer.body.is_empty());
    assert_eq!(answer.header("etag"), Some("\"p-1-v1\""));
    assert_eq!(
        answer.header("cache-control"),
        Some("public, max-age=0, s-maxage=300")
    );
    assert_eq!(answer.header("cache-groups"), Some("\"product-1\""));

    instance
        .patch("/products/1", json!({ "price_cents": 7 }))
        .await
        .expect(200);
    instance
        .send("GET", "/products/1", &known, None)
        .await
        .expect(200);
}

#[tokio::test]
async fn a_write_on_an_old_version_is_refused() {
    let (_shop, instance) = start(Service::Products).await;
    let old = [("if-match", "\"p-1-v1\"")];
    let patch = json!({ "price_cents": 7 });
    instance
        .send("PATCH", "/products/1", &old, Some(patch.clone()))
        .await
        .expect(200);
    instance
        .send("PATCH", "/products/1", &old, Some(patch))
        .await
        .problem(412);
    instance
        .send("PUT", "/products/1", &old, Some(lamp()))
        .await
        .problem(412);
    instance
        .send("DELETE", "/products/1", &old, None)
        .await
        .problem(412);
    instance
        .send("DELETE", "/products/1", &[("if-match", "p-1-v2")], None)
        .await
        .problem(400);
    let weak = [("if-match", "W/\"p-1-v2\"")];
    instance
        .send("DELETE", "/products/1", &weak, None)
        .await
        .problem(412);
    let current = [("if-match", "\"p-1-v2\"")];
    instance
        .send("PUT", "/products/1", &current, Some(lamp()))
        .await
        .expect(200);
    instance
        .send("DELETE", "/products/1", &[("if-match", "*")], None)
        .await
        .expect(204);
}

#[tokio::test]
async fn the_list_is_filtered_and_paged() {
    let (_shop, instance) = start(Service::Products).await;
    let all = instance.get("/products").await.expect(200).json();
    assert_eq!(names(&all).len(), 12);
    assert_eq!(all["next_after"], Value::Null);

    let kitchen = instance
        .get("/products?category=kitchen")
        .await
        .expect(200)
        .json();
    assert_eq!(names(&kitchen), ["Enamel mug", "Moka pot", "Chef's knife"]);
    let found = instance
        .get("/products?q=BALLPOINT")
        .await
        .expect(200)
        .json();
    assert_eq!(names(&found), ["Brass pen"]);
    let both = instance
        .get("/products?category=home&q=half%20trans")
        .await
        .expect(200)
        .json();
    assert_eq!(names(&both), ["Linen curtain"]);
    let wildcard = instance.get("/products?q=%25").await.expect(200).json();
    assert!(names(&wildcard).is_empty(), "a % of the client is only a %");

    let mut paged = Vec::new();
    let mut path = "/products?limit=5".to_owned();
    loop {
        let page = instance.get(&path).await.expect(200).json();
        paged.extend(names(&page).into_iter().map(str::to_owned));
        let Some(after) = page["next_after"].as_i64() else {
            break;
        };
        path = format!("/products?limit=5&after={after}");
    }
    assert_eq!(paged, names(&all));
    let exact = instance.get("/products?limit=12").await.expect(200).json();
    assert_eq!(exact["next_after"], Value::Null);

    for broken in [
        "limit=0",
        "limit=101",
        "limit=x",
        "after=-1",
        "category=",
        "q=",
    ] {
        instance
            .get(&format!("/products?{broken}"))
            .await
            .problem(400);
    }
}

#[tokio::test]
async fn categories_are_counted() {
    let (_shop, instance) = start(Service::Products).await;
    made(&instance, lamp()).await;
    let categories = instance
        .get("/products/categories")
        .await
        .expect(200)
        .json();
    let home = json!({ "name": "home", "products": 4 });
    assert_eq!(categories["categories"][0], home);
    assert_eq!(categories["categories"].as_array().unwrap().len(), 4);
}

#[tokio::test]
async fn stock_changes_on_the_version_that_was_read_and_never_below_zero() {
    let (shop, instance) = start(Service::Products).await;
    let mut product = lamp();
    product["stock"] = 2.into();
    let path = made(&instance, product).await;
    let stock_path = format!("{path}/stock");
    let stock = instance.get(&stock_path).await.expect(200).json();
    assert_eq!(
        (&stock["quantity"], &stock["version"]),
        (&json!(2), &json!(1))
    );

    let take = json!({ "delta": -1, "version": 1, "reason": "order 7" });
    let taken = instance
        .post(&stock_path, take.clone())
        .await
        .expect(200)
        .json();
    assert_eq!(
        (&taken["quantity"], &taken["version"]),
        (&json!(1), &json!(2))
    );
    let problem = instance.post(&stock_path, take).await.problem(409);
    assert_eq!(problem["version"], 2);
    let too_many = json!({ "delta": -2, "version": 2 });
    let problem = instance.post(&stock_path, too_many).await.problem(409);
    assert_eq!(problem["quantity"], 1);
    let more = json!({ "delta": 1_000_000_000, "version": 2 });
    instance.post(&stock_path, more).await.problem(409);
    instance
        .post(&stock_path, json!({ "delta": 1 }))
        .await
        .problem(422);
    instance
        .post("/products/0/stock", json!({ "delta": 1, "version": 1 }))
        .await
        .problem(404);
    assert_eq!(instance.get(&stock_path).await.json(), taken);
    assert_eq!(
        instance.get(&path).await.header("etag"),
        Some(etag(&path).as_str())
    );

    let id = path.rsplit('/').next().unwrap();
    let events = format!("SELECT count(*) FROM stock_events WHERE product_id = {id}");
    assert_eq!(
        query(&shop.database(), &events),
        2,
        "refused changes leave no event"
    );
    let sum = format!("SELECT sum(delta) FROM stock_events WHERE product_id = {id}");
    assert_eq!(query(&shop.database(), &sum), 1);
}

fn etag(path: &str) -> String {
    format!("\"p-{}-v1\"", path.rsplit('/').next().unwrap())
}

/// Takes single units until none is left; returns how many it got.
async fn buy_all(instance: &Instance, path: &str) -> i64 {
    let mut connection = instance.connect().await;
    let mut bought = 0;
    loop {
        let stock = connection
            .send("GET", path, &[], None)
            .await
            .expect(200)
            .json();
        let order = json!({ "delta": -1, "version": stock["version"] });
        let answer = connection.send("POST", path, &[], Some(order)).await;
        match answer.status {
            200 => bought += 1,
            409 if answer.problem(409).get("quantity").is_some() => return bought,
            status => assert_eq!(status, 409),
        }
    }
}

#[tokio::test]
async fn concurrent_buyers_at_two_processes_never_buy_more_than_there_is() {
    let shop = Shop::new(Service::Products);
    let (one, two) = tokio::join!(shop.start("products-1"), shop.start("products-2"));
    let mut product = lamp();
    product["stock"] = 20.into();
    let path = format!("{}/stock", made(&one, product).await);

    let (a, b, c, d) = tokio::join!(
        buy_all(&one, &path),
        buy_all(&two, &path),
        buy_all(&one, &path),
        buy_all(&two, &path),
    );

    assert_eq!(a + b + c + d, 20);
    let left = one.get(&path).await.expect(200).json();
    assert_eq!(
        (&left["quantity"], &left["version"]),
        (&json!(0), &json!(21))
    );
    let sold = "SELECT count(*) FROM stock_events WHERE delta = -1";
    assert_eq!(query(&shop.database(), sold), 20);
}

#[tokio::test]
async fn two_processes_on_one_file_see_each_others_writes() {
    let shop = Shop::new(Service::Products);
    let (one, two) = tokio::join!(shop.start("products-1"), shop.start("products-2"));
    let path = made(&one, lamp()).await;
    let seen = two.get(&path).await.expect(200);
    assert_eq!(seen.header("x-served-by"), Some("products-2"));
    two.patch(&path, json!({ "name": "Sun" })).await.expect(200);
    assert_eq!(one.get(&path).await.expect(200).json()["name"], "Sun");
    one.delete(&path).await.expect(204);
    two.get(&path).await.problem(404);
}

#[tokio::test]
async fn a_deleted_product_of_the_demo_stays_deleted_after_a_restart() {
    let (shop, instance) = start(Service::Products).await;
    instance.delete("/products/1").await.expect(204);
    instance
        .patch("/products/2", json!({ "price_cents": 7 }))
        .await
        .expect(200);
    instance.stop().await;

    let again = shop.start("products-1").await;
    again.get("/products/1").await.problem(404);
    assert_eq!(
        again.get("/products/2").await.expect(200).json()["price_cents"],
        7
    );
}
