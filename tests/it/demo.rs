//! The shop, from the one command to the last file removed.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Client, Process, Request, eventually, kill};

/// Addresses that nobody listens on. The demo binds them itself and only later, so they are taken
/// from below the range in which the system finds ports for everybody else, each of them once.
fn free(count: usize) -> Vec<SocketAddr> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
    let lowest: u32 = range.split_whitespace().next().unwrap().parse().unwrap();
    let span = lowest - 1024;
    // Another run of the tests begins elsewhere.
    let start = std::process::id().wrapping_mul(7919);
    let ports = std::iter::repeat_with(|| {
        let port = 1024 + start.wrapping_add(NEXT.fetch_add(1, Relaxed)) % span;
        SocketAddr::from(([127, 0, 0, 1], u16::try_from(port).unwrap()))
    });
    ports
        .filter(|address| TcpListener::bind(address).is_ok())
        .take(count)
        .collect()
}

/// The example's shop with two endpoints for products, on ports of our own.
fn config(ports: &[SocketAddr]) -> String {
    let [proxy, admin, products, more, orders0, orders1] = ports else {
        panic!("six ports");
    };
    format!(
        "workers: 2
admin: {{ address: '{admin}' }}
listeners: [{{ address: '{proxy}' }}]
log: {{ format: json }}
upstreams:
  products:
    endpoints: ['{products}', '{more}']
    sticky: {{ cookie: DAB_ROUTE }}
    health_check: {{ path: /healthz, interval: 200ms, timeout: 200ms, unhealthy_threshold: 2 }}
  orders-0: {{ endpoints: ['{orders0}'] }}
  orders-1: {{ endpoints: ['{orders1}'] }}
shard_maps:
  orders: {{ key: {{ path: user_id }}, strategy: modulo, shards: [orders-0, orders-1] }}
routes:
  - {{ name: products, match: {{ path_prefix: /products }}, upstream: products, cache: {{}} }}
  - {{ name: orders, match: {{ path: '/users/{{user_id}}/orders' }}, shard_map: orders }}
"
    )
}

struct Demo {
    process: Process,
    proxy: SocketAddr,
    admin: SocketAddr,
    /// By name.
    children: BTreeMap<String, u32>,
    /// Where the databases are.
    shop: PathBuf,
    _folder: TempDir,
}

impl Demo {
    async fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let ports = free(6);
        std::fs::write(folder.path().join("shop.yaml"), config(&ports)).unwrap();
        let mut process = Process::start(["demo", "-c", "shop.yaml"], folder.path());
        let lines = eventually("the shop opens", async || {
            if let Some(status) = process.try_end() {
                panic!("{status}: {:#?}", process.errors());
            }
            let lines = process.output();
            lines
                .iter()
                .any(|line| line.contains("Ctrl-C"))
                .then_some(lines)
        })
        .await;
        let child = |line: &String| {
            let (name, rest) = line.trim().split_once(' ')?;
            let (_, pid) = rest.split_once("  pid ")?;
            Some((name.to_owned(), pid.parse().ok()?))
        };
        let shop = lines
            .iter()
            .find_map(|line| line.strip_prefix("starting the shop in "));
        let text = lines.join("\n");
        for address in &ports[..2] {
            assert!(
                text.contains(&format!("http://{address}")),
                "{address} is not told\n{text}"
            );
        }
        assert_eq!(text.matches("\n  curl ").count(), 3, "{text}");
        Self {
            process,
            proxy: ports[0],
            admin: ports[1],
            children: lines.iter().filter_map(child).collect(),
            shop: PathBuf::from(shop.expect("the folder")),
            _folder: folder,
        }
    }

    async fn client(&self) -> Client {
        Client::connect(self.proxy).await
    }

    async fn until_gone(&self) {
        for (name, pid) in &self.children {
            let what = format!("{name} has ended");
            eventually(&what, async || (!is_alive(*pid)).then_some(())).await;
        }
        eventually("the folder is gone", async || {
            (!self.shop.exists()).then_some(())
        })
        .await;
    }
}

/// A zombie, which waits for nothing but to be reaped, is not alive.
fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// Whether the process, or its zombie, is a child of the other. The system may use a number again.
fn is_child(pid: u32, parent: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let parent = parent.to_string();
    status
        .lines()
        .filter_map(|line| line.strip_prefix("PPid:"))
        .any(|of| of.trim() == parent)
}

fn product(name: &str) -> Value {
    json!({ "name": name, "description": "", "category": "books", "price_cents": 990, "stock": 3 })
}

#[tokio::test]
async fn a_product_is_created_read_twice_updated_and_read_anew() {
    let mut demo = Demo::start().await;
    let mut client = demo.client().await;
    assert_eq!(demo.children.len(), 4, "{:?}", demo.children);

    let created = client
        .send(&Request::new("POST", "/products").json(&product("Atlas")))
        .await;
    let path = format!("/products/{}", created.expect(201).json()["id"]);
    let first = client.get(&path).await.expect(200);
    let second = client.get(&path).await.expect(200);
    assert_eq!(
        (first.is_hit(), second.is_hit()),
        (false, true),
        "{}",
        second.cache()
    );
    assert_eq!(second.json()["name"], "Atlas");
    client
        .send(&Request::new("PUT", &path).json(&product("Globe")))
        .await
        .expect(200);
    assert_eq!(client.get(&path).await.expect(200).json()["name"], "Globe");

    // Orders of different users are on different shards, and one user's always on the same.
    let order = json!({ "items": [{ "product_id": 1, "quantity": 2, "unit_price_cents": 990 }] });
    for user in [7, 8, 9, 7, 8, 9] {
        let path = format!("/users/{user}/orders");
        let placed = client
            .send(&Request::new("POST", &path).json(&order))
            .await
            .expect(201);
        let listed = client.get(&path).await.expect(200);
        let shard = format!("orders-{}", user % 2);
        assert_eq!(
            (placed.by(), listed.by()),
            (shard.as_str(), shard.as_str()),
            "{user}"
        );
    }

    // A client keeps its endpoint. Stock is never cached, so that each answer is an endpoint's.
    let stock = format!("{path}/stock");
    let first = client.get(&stock).await.expect(200);
    let (value, _) = first.cookie("DAB_ROUTE").expect("a cookie");
    for _ in 0..10 {
        let request = Request::get(&stock).header("cookie", &format!("DAB_ROUTE={value}"));
        let again = client.send(&request).await.expect(200);
        assert_eq!((again.by(), again.cookie("DAB_ROUTE")), (first.by(), None));
    }

    // Every request has its line in the log that the demo names.
    eventually("the log has the update", async || {
        let log = std::fs::read_to_string(demo.shop.join("access.log")).ok()?;
        let line = log
            .lines()
            .find(|line| line.contains("\"method\":\"PUT\""))?;
        let line: Value = serde_json::from_str(line).ok()?;
        (line["path"] == path && line["status"] == 200).then_some(())
    })
    .await;

    demo.process.signal(Signal::INT);
    assert_eq!(demo.process.end().await.code(), Some(0));
    demo.until_gone().await;
}

#[tokio::test]
async fn killing_a_service_fails_no_read_and_shows_it_as_down_and_why() {
    let demo = Demo::start().await;
    let mut client = demo.client().await;
    let victim = "products-1";
    // Both serve.
    eventually("the victim serves", async || {
        (client.get("/products/1/stock").await.expect(200).by() == victim).then_some(())
    })
    .await;

    kill(demo.children[victim], Signal::KILL);
    let mut reads = 0;
    let endpoints = eventually("it shows as down", async || {
        for _ in 0..20 {
            assert_ne!(
                client.get("/products/1/stock").await.expect(200).by(),
                victim
            );
            reads += 1;
        }
        let look = Request::get("/api/upstreams").header("host", "127.0.0.1");
        let mut admin = Client::connect(demo.admin).await;
        let answer = admin.send(&look).await.expect(200);
        let products = answer.json()["upstreams"][0]["endpoints"].clone();
        (products[0]["state"] == "down").then_some(products)
    })
    .await;

    assert_eq!(endpoints[0]["reason"], "connection refused");
    assert_eq!(endpoints[1]["state"], "up");
    assert!(reads >= 20);
    demo.process.error_line("endpoint is taken out").await;
    assert!(
        !is_alive(demo.children[victim]),
        "it was restarted behind the operator's back"
    );
}

#[tokio::test]
async fn a_service_that_is_told_to_stop_leaves_the_folder_to_the_others() {
    let demo = Demo::start().await;
    let victim = demo.children["orders-0"];

    kill(victim, Signal::TERM);
    let pid = format!("orders-0 (pid {victim}) ended: exit status: 0");
    demo.process.error_line(&pid).await;

    assert!(demo.shop.join("products.db").exists());
    let created = demo
        .client()
        .await
        .send(&Request::new("POST", "/products").json(&product("Atlas")))
        .await;
    created.expect(201);
}

#[tokio::test]
async fn a_service_that_ends_is_reaped_and_reported_once() {
    let mut demo = Demo::start().await;
    let victim = demo.children["orders-0"];

    kill(victim, Signal::KILL);
    let told = demo.process.error_line("it is not started again").await;

    assert_eq!(
        told,
        format!(
            "headgate: orders-0 (pid {victim}) ended: signal: 9 (SIGKILL); it is not started again"
        )
    );
    assert!(!is_child(victim, demo.process.id()), "it is a zombie");
    // Nor are the others reported, which end because the demo does.
    demo.process.signal(Signal::INT);
    assert_eq!(demo.process.end().await.code(), Some(0));
    let errors = demo.process.errors();
    let ends = errors.iter().filter(|line| line.contains(" ended: "));
    assert_eq!(ends.count(), 1, "{errors:#?}");
}

#[tokio::test]
async fn services_end_with_the_demo_even_when_that_is_killed() {
    let mut demo = Demo::start().await;

    demo.process.signal(Signal::KILL);
    demo.process.end().await;

    demo.until_gone().await;
}

#[tokio::test]
async fn ports_in_use_are_all_named_before_anything_starts() {
    let folder = TempDir::new().unwrap();
    let ports = free(6);
    let taken = [
        TcpListener::bind(ports[0]).unwrap(),
        TcpListener::bind(ports[4]).unwrap(),
    ];
    std::fs::write(folder.path().join("shop.yaml"), config(&ports)).unwrap();

    let mut process = Process::start(["demo", "-c", "shop.yaml"], folder.path());
    let status = process.end().await;

    assert_eq!(status.code(), Some(1));
    let errors = process.errors().join("\n");
    for port in [ports[0], ports[4]] {
        assert!(
            errors.contains(&format!("cannot listen on {port}")),
            "{errors}"
        );
    }
    assert!(!errors.contains(&ports[1].to_string()), "{errors}");
    let left: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .flatten()
        .collect();
    assert_eq!(left.len(), 1, "{left:?}");
    drop(taken);
}
