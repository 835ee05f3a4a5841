//! Headgate's own errors as gRPC clients read them.

use crate::harness::{Config, Gate, Origin, Reply, Request};

fn call(target: &str) -> Request {
    Request::post(target, "\0\0\0\0\0").header("content-type", "application/grpc+proto")
}

#[tokio::test]
async fn refusals_of_calls_have_a_status_of_grpc() {
    let origin = Origin::start("a")
        .await
        .on("/slow/call", |_| Reply::nothing());
    let config = Config::new()
        .top("limits: { body: 8B }")
        .upstream("shop", &[&origin], "timeouts: { first_byte: 50ms }")
        .upstream_at("gone", "127.0.0.1:1", "")
        .route("slow", "path_prefix: /slow", "upstream: shop")
        .route("gone", "path_prefix: /gone", "upstream: gone");
    let gate = Gate::start(&config).await;

    for (request, code) in [
        (call("/none/call"), "12"),
        (call("/gone/call"), "14"),
        (call("/slow/call"), "4"),
        (call("/slow/call").body("123456789"), "8"),
        (call("/slow/a%2fb"), "13"),
    ] {
        let answer = gate.send(&request).await.expect(200);
        assert_eq!(answer.all("grpc-status"), [code], "{request:?}");
        assert_eq!(answer.all("content-type"), ["application/grpc"]);
        assert!(!answer.header("grpc-message").unwrap().is_empty());
        assert!(answer.header("x-request-id").is_some());
        assert_eq!(answer.body, b"");
    }
    for (sent, told) in [
        ("application/grpc-web+proto", "application/grpc-web"),
        ("application/grpc-web", "application/grpc-web"),
        (
            "Application/gRPC-Web; charset=utf-8",
            "application/grpc-web",
        ),
        (
            "application/grpc-web-text+proto",
            "application/grpc-web-text",
        ),
        ("application/grpc; charset=utf-8", "application/grpc"),
    ] {
        let request = Request::post("/gone/call", "").header("content-type", sent);
        let answer = gate.send(&request).await.expect(200);
        assert_eq!(answer.all("content-type"), [told], "{sent}");
        assert_eq!(answer.all("grpc-status"), ["14"], "{sent}");
        assert_eq!(answer.body, b"");
    }
    // What only begins like it is something else.
    let other = Request::post("/gone/call", "").header("content-type", "application/grpc-other");
    gate.send(&other).await.problem(502);
    let reason = [("reason", "no_route")];
    gate.until("headgate_rejects_total", &reason, 1.0).await;
    // Others are told in the words of HTTP.
    gate.get("/none/call").await.problem(404);
}
