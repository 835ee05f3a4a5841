//! Accounts and tokens.

use headgate_backends::{Service, TOKEN_AUDIENCE, TOKEN_ISSUER, TOKEN_LIFETIME};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, jwk::JwkSet};
use serde_json::{Value, json};

use crate::harness::{Answer, Instance, Shop, query, start};

fn ada(password: &str) -> Value {
    json!({ "email": "ada@example.org", "password": password })
}

const PASSWORD: &str = "analytical engine";

async fn token(instance: &Instance) -> String {
    let answer = instance
        .post("/auth/login", ada(PASSWORD))
        .await
        .expect(200)
        .json();
    answer["access_token"].as_str().unwrap().to_owned()
}

async fn me(instance: &Instance, authorization: &str) -> Answer {
    instance
        .send("GET", "/auth/me", &[("authorization", authorization)], None)
        .await
}

#[tokio::test]
async fn an_account_is_registered_logs_in_and_reads_itself() {
    let (shop, instance) = start(Service::Auth).await;
    let answer = instance
        .post("/auth/register", ada(PASSWORD))
        .await
        .expect(201);
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.header("location"), Some("/auth/me"));
    let user = answer.json();
    let created = "2027-01-15T08:00:00Z";
    assert_eq!(
        user,
        json!({ "id": 1, "email": "ada@example.org", "created_at": created })
    );

    let credentials = json!({ "email": "ADA@example.org", "password": PASSWORD });
    let answer = instance.post("/auth/login", credentials).await.expect(200);
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let login = answer.json();
    assert_eq!(
        (&login["token_type"], &login["expires_in"]),
        (&json!("Bearer"), &json!(900))
    );
    let token = login["access_token"].as_str().unwrap();
    let answer = me(&instance, &format!("Bearer {token}")).await.expect(200);
    assert_eq!(answer.json(), user);
    assert_eq!(answer.header("cache-control"), Some("private, no-store"));

    let plain = format!("SELECT count(*) FROM users WHERE password_hash LIKE '%{PASSWORD}%'");
    assert_eq!(query(&shop.database(), &plain), 0);
    let argon2id = "SELECT count(*) FROM users WHERE password_hash LIKE '$argon2id$v=19$%'";
    assert_eq!(query(&shop.database(), argon2id), 1);
}

#[tokio::test]
async fn an_address_is_taken_once_and_weak_or_broken_registrations_are_refused() {
    let (_shop, instance) = start(Service::Auth).await;
    let (a, b) = tokio::join!(
        instance.post("/auth/register", ada(PASSWORD)),
        instance.post("/auth/register", ada(PASSWORD)),
    );
    let mut statuses = [a.status, b.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409]);
    let shouted = json!({ "email": "Ada@Example.ORG", "password": PASSWORD });
    instance.post("/auth/register", shouted).await.problem(409);
    for (email, password) in [
        ("bob@example.org", "0-tiny-0"),
        ("bob@example.org", "aaaaaaaaaaaa"),
        ("bob", PASSWORD),
    ] {
        let account = json!({ "email": email, "password": password });
        let answer = instance.post("/auth/register", account).await;
        answer.problem(422);
        assert!(!String::from_utf8_lossy(&answer.body).contains(password));
    }
}

#[tokio::test]
async fn an_unknown_address_and_a_wrong_password_get_the_same_answer() {
    let (_shop, instance) = start(Service::Auth).await;
    instance
        .post("/auth/register", ada(PASSWORD))
        .await
        .expect(201);
    let wrong = instance.post("/auth/login", ada("difference engine")).await;
    let stranger = json!({ "email": "eve@example.org", "password": PASSWORD });
    let unknown = instance.post("/auth/login", stranger).await;
    assert_eq!(wrong.problem(401), unknown.problem(401));
    for name in ["www-authenticate", "cache-control", "content-length"] {
        assert!(wrong.header(name).is_some(), "{name}");
        assert_eq!(wrong.header(name), unknown.header(name), "{name}");
    }
}

#[tokio::test]
async fn a_token_is_needed_genuine_and_in_its_time() {
    let (shop, instance) = start(Service::Auth).await;
    instance
        .post("/auth/register", ada(PASSWORD))
        .await
        .expect(201);
    let token = token(&instance).await;

    let missing = instance.get("/auth/me").await;
    missing.problem(401);
    assert_eq!(missing.header("www-authenticate"), Some("Bearer"));
    let (head, _) = token.rsplit_once('.').unwrap();
    for broken in [format!("Basic {token}"), "Bearer".to_owned()] {
        me(&instance, &broken).await.problem(401);
    }
    for broken in [
        "Bearer x".to_owned(),
        format!("Bearer {head}."),
        format!("Bearer {token}A"),
    ] {
        let answer = me(&instance, &broken).await;
        answer.problem(401);
        assert_eq!(
            answer.header("www-authenticate"),
            Some("Bearer error=\"invalid_token\"")
        );
    }
    shop.pass(TOKEN_LIFETIME);
    me(&instance, &format!("Bearer {token}")).await.problem(401);
}

#[tokio::test]
async fn tokens_are_proven_with_the_published_key() {
    let (shop, instance) = start(Service::Auth).await;
    instance
        .post("/auth/register", ada(PASSWORD))
        .await
        .expect(201);
    let answer = instance
        .get("/auth/.well-known/jwks.json")
        .await
        .expect(200);
    assert_eq!(answer.header("cache-control"), Some("public, max-age=300"));
    let etag = answer.header("etag").unwrap();
    let known = [("if-none-match", etag)];
    instance
        .send("GET", "/auth/.well-known/jwks.json", &known, None)
        .await
        .expect(304);

    let keys: JwkSet = serde_json::from_slice(&answer.body).unwrap();
    let token = token(&instance).await;
    let header = jsonwebtoken::decode_header(&token).unwrap();
    assert_eq!(header.alg, Algorithm::ES256);
    let key = keys.find(header.kid.as_deref().unwrap()).unwrap();
    let mut validation = Validation::new(Algorithm::ES256);
    validation.set_issuer(&[TOKEN_ISSUER]);
    validation.set_audience(&[TOKEN_AUDIENCE]);
    validation.validate_exp = false;
    let claims =
        jsonwebtoken::decode::<Value>(&token, &DecodingKey::from_jwk(key).unwrap(), &validation)
            .unwrap()
            .claims;
    assert_eq!(claims["sub"], "1");
    assert_eq!(
        claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(),
        900
    );
    assert!(claims["jti"].is_string());
    drop(shop);
}

#[tokio::test]
async fn the_key_is_kept_across_restarts_and_shared_by_processes() {
    let shop = Shop::new(Service::Auth);
    let (one, two) = tokio::join!(shop.start("auth-1"), shop.start("auth-2"));
    one.post("/auth/register", ada(PASSWORD)).await.expect(201);
    let token = token(&one).await;
    me(&two, &format!("Bearer {token}")).await.expect(200);
    one.stop().await;
    two.stop().await;

    let again = shop.start("auth-1").await;
    me(&again, &format!("bearer {token}")).await.expect(200);
}
