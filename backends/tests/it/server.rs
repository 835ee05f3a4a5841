//! What all services share: health, refusals, limits, sockets, start and stop.

use headgate_backends::{Options, Service, bind, serve};
use serde_json::json;

use crate::harness::{Instance, Shop, start};

#[tokio::test]
async fn every_service_says_that_it_is_healthy_and_who_it_is() {
    for service in Service::ALL {
        let (_shop, instance) = start(service).await;
        let answer = instance.get("/healthz").await.expect(200);
        assert_eq!(answer.json(), json!({ "status": "ok" }));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(
            answer.header("x-served-by"),
            Some(format!("{service}-1").as_str())
        );
        instance.stop().await;
    }
}

#[tokio::test]
async fn a_service_whose_file_is_broken_is_not_healthy() {
    let (shop, instance) = start(Service::Carts).await;
    instance.get("/healthz").await.expect(200);
    let vandal = rusqlite::Connection::open(shop.database()).unwrap();
    vandal
        .execute_batch(
            "PRAGMA writable_schema = ON;
             UPDATE sqlite_schema SET sql = 'nonsense' WHERE name = 'carts';
             PRAGMA schema_version = 99;",
        )
        .unwrap();
    instance.get("/healthz").await.problem(500);
}

#[tokio::test]
async fn unknown_paths_and_methods_are_problems() {
    let (_shop, instance) = start(Service::Products).await;
    instance.get("/nothing").await.problem(404);
    let answer = instance.delete("/products").await;
    answer.problem(405);
    let allowed = answer.header("allow").unwrap();
    assert!(
        allowed.contains("GET") && allowed.contains("POST"),
        "{allowed}"
    );
    instance.post("/healthz", json!({})).await.problem(405);
}

#[tokio::test]
async fn a_body_must_be_json_of_the_right_shape_and_size() {
    let (_shop, instance) = start(Service::Products).await;
    let post = async |content_type: &str, body: &str| {
        let mut connection = instance.connect().await;
        let length = body.len();
        let head = "POST /products HTTP/1.1\r\nhost: shop.test\r\ncontent-type: ";
        connection
            .write(&format!(
                "{head}{content_type}\r\ncontent-length: {length}\r\n\r\n{body}"
            ))
            .await;
        connection.read(false).await
    };
    post("text/plain", "{}").await.problem(415);
    post("application/json", "{").await.problem(400);
    post("application/json", "[]").await.problem(422);
    let large = format!("{{\"name\": \"{}\"}}", "x".repeat(64 * 1024));
    post("application/json", &large).await.problem(413);
}

#[tokio::test]
async fn a_connection_carries_many_requests() {
    let (_shop, instance) = start(Service::Products).await;
    let mut connection = instance.connect().await;
    for _ in 0..3 {
        connection
            .send("GET", "/products/1", &[], None)
            .await
            .expect(200);
        connection
            .send("GET", "/products/0", &[], None)
            .await
            .problem(404);
    }
    let head = connection
        .send("HEAD", "/products/1", &[], None)
        .await
        .expect(200);
    assert!(head.body.is_empty());
    assert!(head.header("etag").is_some());
}

/// Time is paused only once the service has answered: paused time leaps to the next deadline whenever
/// the runtime waits, also for the thread that opens the database.
async fn start_and_pause(service: Service) -> (Shop, Instance) {
    let (shop, instance) = start(service).await;
    instance.get("/healthz").await.expect(200);
    tokio::time::pause();
    (shop, instance)
}

#[tokio::test]
async fn a_client_that_holds_back_its_body_is_told_and_closed() {
    let (_shop, instance) = start_and_pause(Service::Carts).await;
    let mut connection = instance.connect().await;
    connection
        .write(
            "PUT /carts/1/items/1 HTTP/1.1\r\nhost: shop.test\r\n\
             content-type: application/json\r\ncontent-length: 15\r\n\r\n{\"quan",
        )
        .await;
    connection.read(false).await.problem(408);
    assert!(connection.is_closed().await);
}

#[tokio::test]
async fn a_client_that_sends_half_a_head_or_nothing_is_closed() {
    let (_shop, instance) = start_and_pause(Service::Carts).await;
    for sent in ["", "GET /healthz HTTP/1.1\r\nhost: sh"] {
        let mut connection = instance.connect().await;
        connection.write(sent).await;
        assert!(connection.is_closed().await);
    }
}

#[tokio::test]
async fn a_stop_lets_the_request_in_flight_finish_and_closes_idle_connections() {
    let (_shop, instance) = start(Service::Carts).await;
    let mut idle = instance.connect().await;
    idle.send("GET", "/healthz", &[], None).await.expect(200);
    let mut busy = instance.connect().await;
    let body = json!({ "quantity": 2 }).to_string();
    let length = body.len();
    busy.write(&format!(
        "PUT /carts/1/items/7 HTTP/1.1\r\nhost: shop.test\r\nexpect: 100-continue\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    ))
    .await;
    // The server asks for the body, so the request is in flight.
    assert_eq!(busy.read(true).await.status, 100);

    let stopped = tokio::spawn(instance.stop());
    assert!(idle.is_closed().await);
    busy.write(&body).await;

    busy.read(false).await.expect(201);
    assert!(busy.is_closed().await);
    stopped.await.unwrap();
}

#[tokio::test]
async fn a_port_in_use_gets_a_message_that_names_it() {
    let (shop, instance) = start(Service::Auth).await;
    let options = Options {
        listen: instance.address,
        ..shop.options("auth-2")
    };
    let error = bind(&options).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    let text = error.to_string();
    assert!(
        text.contains(&instance.address.to_string()) && text.contains("in use"),
        "{text}"
    );
}

#[tokio::test]
async fn a_service_refuses_to_start_on_what_it_cannot_use() {
    let orders = Shop::new(Service::Orders);
    orders.start("orders-1").await.stop().await;
    let options = Options {
        service: Service::Carts,
        ..orders.options("carts-1")
    };
    let listener = bind(&options).await.unwrap();
    let error = serve(listener, options, std::future::pending())
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("is not a database of this service"),
        "{error}"
    );

    let options = Options {
        database: "/nowhere/at/all.db".into(),
        ..orders.options("orders-1")
    };
    let listener = bind(&options).await.unwrap();
    let error = serve(listener, options, std::future::pending())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("/nowhere/at/all.db"), "{error}");

    let options = orders.options("line\nbreak");
    let listener = bind(&options).await.unwrap();
    assert!(
        serve(listener, options, std::future::pending())
            .await
            .is_err()
    );
}

#[tokio::test]
async fn instances_that_start_at_once_on_a_new_file_share_it() {
    for service in [Service::Products, Service::Auth] {
        let shop = Shop::new(service);
        let (a, b, c) = tokio::join!(shop.start("a"), shop.start("b"), shop.start("c"));
        for instance in [a, b, c] {
            instance.get("/healthz").await.expect(200);
            instance.stop().await;
        }
    }
}
