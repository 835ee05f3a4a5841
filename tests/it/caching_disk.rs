//! The cache's tier on disk: through evictions and restarts, over files and journals that are not as they were
//! written, and beside a disk that does not work.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::Signal;
use serde_json::json;
use tempfile::TempDir;

use crate::harness::{Answer, Config, Gate, Origin, Reply, Request, Timed, eventually};

const OBJECTS: &str = "headgate_cache_disk_objects";
const WRITES: &str = "headgate_cache_disk_writes_total";
const UP: &str = "headgate_cache_disk_up";

/// A folder for answers, and an origin whose answers are fresh for 100 seconds.
struct Shop {
    folder: TempDir,
    origin: Origin,
    memory: &'static str,
    size: &'static str,
    rule: &'static str,
    /// Of `cache` at the top.
    more: &'static str,
}

/// Answers by path, with the paths' last segment as tag and group; asked about what is stored, it says that
/// it holds. Answers to paths in `/plain` cannot be asked about.
async fn shop() -> Shop {
    let origin = Origin::start("o").await.on("*", |seen| {
        let last = seen.path().rsplit('/').next().unwrap().to_owned();
        if seen.method == "POST" {
            return Reply::new(204).header("cache-group-invalidation", &format!("\"{last}\""));
        }
        let reply = match seen.header("if-none-match") {
            Some(_) => Reply::new(304),
            None => Reply::ok(body(seen.path())),
        };
        let reply = match seen.path().starts_with("/plain") {
            true => reply,
            false => reply.header("etag", "\"1\""),
        };
        reply
            .header("cache-control", "max-age=100")
            .header("surrogate-key", &last)
            .header("cache-groups", &format!("\"{last}\""))
    });
    Shop {
        folder: tempfile::tempdir().unwrap(),
        origin,
        memory: "8MiB",
        size: "64MiB",
        rule: "",
        more: "",
    }
}

/// Of several pieces under `/large`, else some kilobytes.
fn body(path: &str) -> Vec<u8> {
    let length = match path.starts_with("/large") {
        true => 300_000,
        false => 60_000,
    };
    path.bytes().cycle().take(length).collect()
}

impl Shop {
    fn config(&self) -> Config {
        let Self {
            memory,
            size,
            rule,
            more,
            ..
        } = self;
        let path = self.path().display().to_string();
        let disk = format!("disk: {{ path: {path}, size: {size} }}");
        Config::new()
            .top(&format!("cache: {{ memory: {memory}, {disk}{more} }}"))
            .upstream("shop", &[&self.origin], "")
            .route(
                "shop",
                "path_prefix: /",
                &format!("upstream: shop, cache: {{ {rule} }}"),
            )
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    async fn open(&self) -> Timed {
        Timed::start(self.config()).await
    }

    /// Opens it again and waits until it has found so many files.
    async fn reopen(&self, objects: usize) -> Timed {
        let gate = self.open().await;
        gate.until(OBJECTS, count(objects)).await;
        gate
    }

    /// Opens it, has these answers stored on disk, and closes it in order.
    async fn fill(&self, targets: &[&str]) {
        let gate = self.open().await;
        fetch(&gate, targets).await;
    }

    /// All files of answers.
    fn files(&self) -> Vec<PathBuf> {
        let folders = list(&self.path().join("answers"));
        let mut files: Vec<_> = folders.iter().flat_map(|folder| list(folder)).collect();
        files.sort();
        files
    }

    fn asked(&self, target: &str) -> usize {
        self.origin.requests(target)
    }
}

fn list(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

fn count(of: usize) -> f64 {
    f64::from(u32::try_from(of).unwrap())
}

/// Has answers stored, and waits for each to be on disk.
async fn fetch(gate: &Timed, targets: &[&str]) {
    for (written, target) in targets.iter().enumerate() {
        let answer = gate.get(target).await.expect(200);
        assert!(!answer.is_hit(), "{}", answer.cache());
        gate.until(WRITES, count(written + 1)).await;
    }
}

#[track_caller]
fn is_from_disk(answer: &Answer) -> bool {
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.is_hit() && answer.cache().ends_with("; detail=disk")
}

/// The origin was asked whether it holds.
#[track_caller]
fn is_validated(answer: &Answer) -> bool {
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.cache() == "headgate; fwd=stale; fwd-status=304"
}

async fn purge(gate: &Timed, what: serde_json::Value) {
    let host = gate.admin.to_string();
    let request = Request::new("POST", "/api/purge")
        .header("host", &host)
        .json(&what);
    gate.ask(&request).await.expect(200);
}

#[tokio::test]
async fn answers_are_there_after_a_restart() {
    let shop = shop().await;
    shop.fill(&["/p", "/large/p"]).await;

    let gate = shop.reopen(2).await;

    for target in ["/p", "/large/p"] {
        let first = gate.get(target).await;
        assert!(is_from_disk(&first), "{}", first.cache());
        assert_eq!(first.body, body(target));
        assert_eq!(first.header("etag"), Some("\"1\""));
        assert!(first.header("age").is_some());
        assert_eq!(first.header("surrogate-key"), None);
        let second = gate.get(target).await.expect(200);
        assert!(
            second.is_hit() && !is_from_disk(&second),
            "{}",
            second.cache()
        );
        assert_eq!(second.body, body(target));
        assert_eq!(shop.asked(target), 1);
    }
    assert!(
        gate.get("/other")
            .await
            .cache()
            .contains("uri-miss; stored")
    );
    gate.until("headgate_cache_disk_hits_total", 2.0).await;
}

#[tokio::test]
async fn what_memory_had_no_room_for_comes_from_disk() {
    let shop = Shop {
        memory: "1MiB",
        ..shop().await
    };
    let gate = shop.open().await;
    let targets: Vec<String> = (0..30).map(|n| format!("/{n}")).collect();
    let targets: Vec<&str> = targets.iter().map(String::as_str).collect();
    fetch(&gate, &targets).await;

    let mut from_disk = 0;
    for target in &targets {
        let answer = gate.get(target).await.expect(200);
        assert!(answer.is_hit(), "{}", answer.cache());
        assert_eq!(answer.body, body(target));
        from_disk += usize::from(is_from_disk(&answer));
    }
    assert!(from_disk >= 30 - 16, "{from_disk}");
    assert_eq!(shop.asked("*"), 30);
    let metrics = gate.metrics().await;
    let bytes = metrics.sum("headgate_cache_bytes", &[]);
    assert!(bytes <= 1_048_576.0, "{bytes}");
}

#[tokio::test]
async fn a_file_that_is_not_as_it_was_written_is_a_miss() {
    let shop = shop().await;
    let targets = ["/1", "/2", "/3", "/4", "/5", "/6"];
    shop.fill(&targets).await;
    let files = shop.files();
    let change = |index: usize, change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = std::fs::read(&files[index]).unwrap();
        change(&mut bytes);
        std::fs::write(&files[index], bytes).unwrap();
    };
    change(0, &|bytes| bytes.truncate(40_000));
    change(1, &|bytes| bytes.push(0));
    change(2, &Vec::clear);
    change(3, &|bytes| bytes[60] ^= 1);
    // Of the body, which is not read before it is asked for.
    change(4, &|bytes| *bytes.last_mut().unwrap() ^= 1);
    let sixth = std::fs::read(&files[5]).unwrap();
    std::fs::write(
        files[4].with_file_name(files[5].file_name().unwrap()),
        sixth,
    )
    .unwrap();

    let gate = shop.reopen(2).await;

    let mut hits = 0;
    for target in targets {
        let answer = gate.get(target).await.expect(200);
        assert_eq!(answer.body, body(target));
        hits += usize::from(answer.is_hit());
    }
    assert_eq!((hits, shop.asked("*")), (1, 6 + 5));
    gate.until("headgate_cache_disk_damaged_total", 6.0).await;
    gate.until(OBJECTS, 6.0).await;
}

#[tokio::test]
async fn what_was_purged_does_not_come_back_after_a_restart() {
    let shop = shop().await;
    let targets = [
        "/url", "/tag", "/group", "/pre/1", "/soft", "/written", "/kept",
    ];
    let gate = shop.open().await;
    fetch(&gate, &targets).await;
    purge(&gate, json!({ "url": "http://shop.test/url" })).await;
    purge(&gate, json!({ "tag": "tag" })).await;
    purge(&gate, json!({ "prefix": "http://shop.test/pre/" })).await;
    purge(&gate, json!({ "tag": "soft", "soft": true })).await;
    for target in ["/elsewhere/group", "/written"] {
        gate.send(&Request::post(target, "x")).await.expect(204);
    }
    drop(gate);

    let gate = shop.reopen(targets.len()).await;

    let kept = gate.get("/kept").await;
    assert!(is_from_disk(&kept), "{}", kept.cache());
    let soft = gate.get("/soft").await;
    assert!(is_validated(&soft), "{}", soft.cache());
    for target in ["/url", "/tag", "/group", "/pre/1", "/written"] {
        let answer = gate.get(target).await.expect(200);
        assert_eq!(answer.cache(), "headgate; fwd=uri-miss; stored", "{target}");
        assert_eq!(shop.origin.last(target).header("if-none-match"), None);
    }
    drop(gate);

    // What came after the purges is not theirs, nor after one more restart.
    let gate = shop.reopen(targets.len()).await;
    for target in targets {
        let answer = gate.get(target).await;
        assert!(is_from_disk(&answer), "{target} {}", answer.cache());
    }
}

#[tokio::test]
async fn a_purge_of_a_host_or_of_all_counts_after_a_restart() {
    for what in [json!({ "host": "shop.test" }), json!({ "all": true })] {
        let shop = shop().await;
        let gate = shop.open().await;
        fetch(&gate, &["/a", "/b"]).await;
        purge(&gate, what.clone()).await;
        drop(gate);

        let gate = shop.reopen(2).await;

        for target in ["/a", "/b"] {
            let answer = gate.get(target).await.expect(200);
            assert!(
                answer.cache().contains("uri-miss"),
                "{what} {}",
                answer.cache()
            );
        }
    }
}

#[tokio::test]
async fn a_purge_reaches_what_lies_on_disk_alone() {
    let shop = shop().await;
    shop.fill(&["/a", "/b"]).await;
    let gate = shop.reopen(2).await;

    purge(&gate, json!({ "tag": "a" })).await;

    assert!(!gate.get("/a").await.expect(200).is_hit());
    assert!(is_from_disk(&gate.get("/b").await));
}

#[tokio::test]
async fn without_a_journal_that_was_closed_everything_is_asked_about() {
    let missing = |path: &Path| std::fs::remove_file(path).unwrap();
    let torn = |path: &Path| {
        let bytes = std::fs::read(path).unwrap();
        std::fs::write(path, &bytes[..bytes.len() - 1]).unwrap();
    };
    let changed = |path: &Path| {
        let mut bytes = std::fs::read(path).unwrap();
        bytes[40] ^= 1;
        std::fs::write(path, bytes).unwrap();
    };
    let spoils: [&dyn Fn(&Path); 3] = [&missing, &torn, &changed];
    for spoil in spoils {
        // Not even these let it be used unasked.
        let shop = Shop {
            rule: "stale_while_revalidate: 1h, stale_if_error: 1h",
            ..shop().await
        };
        shop.fill(&["/p", "/plain/p"]).await;
        spoil(&shop.path().join("journal"));

        let gate = shop.reopen(2).await;
        let (asked, plain) = (gate.get("/p").await, gate.get("/plain/p").await);
        assert!(is_validated(&asked), "{}", asked.cache());
        assert_eq!(asked.body, body("/p"));
        assert!(
            plain.cache().ends_with("uri-miss; stored"),
            "{}",
            plain.cache()
        );
        gate.until(WRITES, 2.0).await;
        drop(gate);

        // The next journal is as good as any.
        let gate = shop.reopen(2).await;
        for target in ["/p", "/plain/p"] {
            let answer = gate.get(target).await;
            assert!(is_from_disk(&answer), "{target} {}", answer.cache());
        }
    }
}

#[tokio::test]
async fn after_a_crash_everything_is_asked_about() {
    let mut shop = Shop {
        rule: "stale_if_error: 1h",
        ..shop().await
    };
    let mut gate = Gate::start(&shop.config()).await;
    for (written, target) in ["/a", "/b"].iter().enumerate() {
        gate.get(target).await.expect(200);
        gate.until(WRITES, &[], count(written + 1)).await;
    }
    gate.process.signal(Signal::KILL);
    gate.process.end().await;

    let gate = Gate::start(&shop.config()).await;
    gate.until(OBJECTS, &[], 2.0).await;

    let a = gate.get("/a").await;
    assert!(is_validated(&a), "{}", a.cache());
    assert_eq!(a.body, body("/a"));
    shop.origin.kill().await;
    assert!(gate.get("/b").await.status >= 500, "never without asking");
}

#[tokio::test]
async fn sigterm_closes_it_in_order() {
    let shop = shop().await;
    let mut gate = Gate::start(&shop.config()).await;
    // Not waited for: what is stored is written before the end.
    gate.get("/p").await.expect(200);
    gate.process.signal(Signal::TERM);
    assert!(gate.process.end().await.success());

    let gate = Gate::start(&shop.config()).await;
    gate.until(OBJECTS, &[], 1.0).await;

    let answer = gate.get("/p").await;
    assert!(is_from_disk(&answer), "{}", answer.cache());
}

#[tokio::test]
async fn answers_grow_old_while_nothing_runs() {
    let shop = shop().await;
    shop.fill(&["/a", "/b"]).await;

    let gate = Timed::start_ahead(shop.config(), 60).await;
    gate.until(OBJECTS, 2.0).await;

    let a = gate.get("/a").await;
    assert!(is_from_disk(&a), "{}", a.cache());
    let age: u64 = a.header("age").unwrap().parse().unwrap();
    assert!((60..100).contains(&age), "{age}");
    gate.advance(50);
    for target in ["/a", "/b"] {
        let answer = gate.get(target).await;
        assert!(is_validated(&answer), "{target} {}", answer.cache());
    }
}

#[tokio::test]
async fn a_clock_that_went_back_makes_nothing_fresh() {
    let shop = shop().await;
    let gate = Timed::start_ahead(shop.config(), 500).await;
    fetch(&gate, &["/p", "/plain/p"]).await;
    drop(gate);

    let gate = shop.reopen(2).await;

    let answer = gate.get("/p").await;
    assert!(is_validated(&answer), "{}", answer.cache());
    assert!(!gate.get("/plain/p").await.expect(200).is_hit());
}

#[tokio::test]
async fn a_request_that_wants_better_is_asked_about() {
    let shop = shop().await;
    shop.fill(&["/p", "/q"]).await;
    let gate = shop.reopen(2).await;

    let p = gate.get_with("/p", &[("cache-control", "no-cache")]).await;
    assert_eq!(
        shop.origin.last("/p").header("if-none-match"),
        Some("\"1\"")
    );
    assert_eq!(p.expect(200).body, body("/p"));

    let held = gate.get_with("/q", &[("if-none-match", "\"1\"")]).await;
    assert_eq!((held.status, shop.asked("/q")), (304, 1));
}

#[tokio::test]
async fn that_one_request_takes_stale_answers_says_nothing_of_others() {
    let shop = shop().await;
    shop.fill(&["/p"]).await;
    let gate = Timed::start_ahead(shop.config(), 200).await;
    gate.until(OBJECTS, 1.0).await;

    let stale = gate.get_with("/p", &[("cache-control", "max-stale")]).await;
    let other = gate.get("/p").await.expect(200);

    assert!(is_validated(&stale), "{}", stale.cache());
    assert!(other.is_hit(), "{}", other.cache());
    assert_eq!(shop.asked("/p"), 2);
}

#[tokio::test]
async fn a_stale_answer_from_disk_is_better_than_an_error_where_the_route_says_so() {
    let mut shop = Shop {
        rule: "stale_if_error: 1h",
        ..shop().await
    };
    shop.fill(&["/p"]).await;
    let gate = Timed::start_ahead(shop.config(), 200).await;
    gate.until(OBJECTS, 1.0).await;
    shop.origin.kill().await;

    let answer = gate.get("/p").await.expect(200);

    assert_eq!(answer.body, body("/p"));
    assert!(
        answer.cache().contains("stale-if-error"),
        "{}",
        answer.cache()
    );
}

/// Opens it with what has been stale for 100 seconds.
async fn stale(shop: &Shop, targets: &[&str]) -> Timed {
    shop.fill(targets).await;
    let gate = Timed::start_ahead(shop.config(), 200).await;
    gate.until(OBJECTS, count(targets.len())).await;
    gate
}

/// It was served stale.
#[track_caller]
fn is_stale(answer: &Answer) {
    assert!(answer.cache().contains("hit; ttl=-"), "{}", answer.cache());
}

#[tokio::test]
async fn a_stale_answer_from_disk_is_served_at_once_where_the_route_says_so() {
    let shop = Shop {
        rule: "stale_while_revalidate: 1h",
        ..shop().await
    };
    let gate = stale(&shop, &["/p"]).await;

    let answers = futures_util::future::join_all((0..10).map(|_| gate.get("/p"))).await;

    assert!(answers.iter().any(is_from_disk));
    for answer in answers {
        assert!(answer.is_hit(), "{}", answer.cache());
        assert_eq!(answer.body, body("/p"));
    }
    eventually("it is validated", async || {
        let answer = gate.get("/p").await;
        (!answer.cache().contains("ttl=-")).then_some(())
    })
    .await;
    assert_eq!(shop.asked("/p"), 2);
    assert_eq!(
        shop.origin.last("/p").header("if-none-match"),
        Some("\"1\"")
    );
}

#[tokio::test]
async fn after_the_start_stale_answers_are_served_for_a_while() {
    let shop = Shop {
        more: ", startup_grace: 2m",
        ..shop().await
    };
    let gate = stale(&shop, &["/p", "/q", "/r"]).await;

    is_stale(&gate.get("/p").await.expect(200));
    let cached = gate.get_with("/q", &[("cache-control", "only-if-cached")]);
    is_stale(&cached.await.expect(200));
    let demanding = gate.get_with("/r", &[("cache-control", "max-age=10")]);
    assert!(is_validated(&demanding.await));
    gate.advance(30);
    assert!(is_validated(&gate.get("/q").await));
}

#[tokio::test]
async fn who_fetches_nothing_for_others_finds_what_is_on_disk() {
    let shop = Shop {
        rule: "ranges: pass",
        ..shop().await
    };
    shop.fill(&["/p", "/q", "/r", "/s"]).await;
    let gate = shop.reopen(4).await;
    let only = ("cache-control", "only-if-cached");

    let p = gate.get_with("/p", &[only]).await;
    assert!(is_from_disk(&p), "{}", p.cache());
    assert_eq!(p.body, body("/p"));
    let q = gate.send(&Request::new("HEAD", "/q")).await;
    assert!(is_from_disk(&q), "{}", q.cache());
    assert_eq!(q.header("content-length"), Some("60000"));
    let r = gate.get_with("/r", &[("range", "bytes=1-9")]).await;
    assert_eq!(r.status, 206);
    assert!(r.cache().ends_with("; detail=disk"), "{}", r.cache());
    assert_eq!(r.body, body("/r")[1..=9]);
    assert_eq!(shop.asked("*"), 4);
    // Memory has them from then on.
    for target in ["/p", "/q", "/r"] {
        let again = gate.get_with(target, &[only]).await.expect(200);
        assert!(again.cache().starts_with("headgate; hit"));
        assert!(!is_from_disk(&again), "{}", again.cache());
    }
    gate.until("headgate_cache_disk_hits_total", 3.0).await;

    gate.get_with("/s", &[only, ("cache-control", "min-fresh=1000")])
        .await
        .expect(504);
    gate.get_with("/none", &[only]).await.expect(504);
    assert_eq!(shop.asked("*"), 4);
    let head = gate.send(&Request::new("HEAD", "/none")).await.expect(200);
    assert_eq!(head.cache(), "headgate; fwd=method");
}

#[tokio::test]
async fn who_fetches_nothing_for_others_is_not_answered_from_disk_with_what_is_no_answer() {
    let shop = shop().await;
    let gate = stale(&shop, &["/p", "/q", "/r"]).await;
    purge(&gate, json!({ "tag": "q" })).await;
    let only = ("cache-control", "only-if-cached");

    for target in ["/p", "/q"] {
        gate.get_with(target, &[only]).await.expect(504);
    }
    assert_eq!(shop.asked("*"), 3);
    let taken = [("cache-control", "only-if-cached, max-stale")];
    is_stale(&gate.get_with("/r", &taken).await.expect(200));
    gate.get_with("/r", &[only]).await.expect(504);
    for target in ["/p", "/q"] {
        let head = gate.send(&Request::new("HEAD", target)).await;
        assert_eq!(head.expect(200).cache(), "headgate; fwd=method");
    }
}

#[tokio::test]
async fn variants_come_back_to_those_they_are_for() {
    let origin = Origin::start("o").await.on("/p", |seen| {
        Reply::ok(seen.header("accept-language").unwrap_or("none").to_owned())
            .header("vary", "accept-language")
            .header("cache-control", "max-age=100")
    });
    let shop = Shop {
        origin,
        ..shop().await
    };
    let gate = shop.open().await;
    for (written, language) in ["de", "en"].iter().enumerate() {
        gate.get_with("/p", &[("accept-language", language)]).await;
        gate.until(WRITES, count(written + 1)).await;
    }
    drop(gate);

    let gate = shop.reopen(2).await;

    for language in ["en", "de"] {
        let answer = gate.get_with("/p", &[("accept-language", language)]).await;
        assert!(is_from_disk(&answer), "{language} {}", answer.cache());
        assert_eq!(answer.text(), language);
    }
    let none = gate.get("/p").await.expect(200);
    assert_eq!((none.text(), none.is_hit()), ("none", false));
}

#[tokio::test]
async fn many_at_once_wait_for_one_file() {
    let shop = shop().await;
    shop.fill(&["/large/p"]).await;
    let gate = shop.reopen(1).await;

    let requests = (0..40).map(|_| gate.get("/large/p"));
    let answers = futures_util::future::join_all(requests).await;

    for answer in answers {
        assert!(answer.is_hit(), "{}", answer.cache());
        assert_eq!(answer.body, body("/large/p"));
    }
    assert_eq!(shop.asked("/large/p"), 1);
    gate.until("headgate_cache_disk_hits_total", 1.0).await;
}

#[tokio::test]
async fn the_files_stay_within_their_bound() {
    let shop = Shop {
        size: "1MiB",
        ..shop().await
    };
    let gate = shop.open().await;
    let targets: Vec<String> = (0..40).map(|n| format!("/{n}")).collect();
    let targets: Vec<&str> = targets.iter().map(String::as_str).collect();
    for (written, target) in targets.iter().enumerate() {
        fetch_one(&gate, target, written + 1).await;
        let bytes: u64 = shop.files().iter().map(|file| length(file)).sum();
        assert!(bytes <= 1 << 20, "{bytes}");
    }
    let metrics = gate.metrics().await;
    let files = shop.files().len();
    assert_eq!(metrics.sum(OBJECTS, &[]), count(files));
    assert_eq!(
        metrics.sum("headgate_cache_disk_evictions_total", &[]),
        count(40 - files)
    );
    drop(gate);

    // The last are left.
    let gate = shop.reopen(files).await;
    assert!(is_from_disk(&gate.get("/39").await));
    assert!(!gate.get("/0").await.expect(200).is_hit());
}

#[tokio::test]
async fn a_smaller_bound_counts_for_what_lies_there_already() {
    let shop = shop().await;
    let targets: Vec<String> = (0..30).map(|n| format!("/{n}")).collect();
    let targets: Vec<&str> = targets.iter().map(String::as_str).collect();
    shop.fill(&targets).await;
    let shop = Shop {
        size: "1MiB",
        ..shop
    };

    let gate = shop.open().await;

    eventually("there are fewer files", async || {
        let bytes: u64 = shop.files().iter().map(|file| length(file)).sum();
        (bytes <= 1 << 20).then_some(())
    })
    .await;
    drop(gate);
    assert_eq!(shop.files().len(), 17);
}

async fn fetch_one(gate: &Timed, target: &str, written: usize) {
    gate.get(target).await.expect(200);
    gate.until(WRITES, count(written)).await;
}

fn length(file: &Path) -> u64 {
    std::fs::metadata(file).unwrap().len()
}

#[tokio::test]
async fn a_full_disk_turns_it_off_and_nothing_else() {
    let shop = shop().await;
    let gate = Gate::start(&shop.config()).await;
    gate.until(UP, &[], 1.0).await;
    symlink("/dev/full", shop.path().join("new")).unwrap();

    gate.get("/a").await.expect(200);
    gate.until(UP, &[], 0.0).await;
    for target in ["/b", "/c"] {
        gate.get(target).await.expect(200);
        assert!(gate.get(target).await.expect(200).is_hit());
    }

    let line = gate.process.error_line("does without its disk").await;
    assert!(line.contains("No space left on device"), "{line}");
    let lines = gate.process.errors();
    let about = lines.iter().filter(|line| line.contains("its disk"));
    assert_eq!(about.count(), 1);
    assert!(shop.files().is_empty());
}

#[tokio::test]
async fn a_folder_that_cannot_be_used_is_done_without() {
    let shop = shop().await;
    let precious = shop.path().join("answers/ab/0");
    std::fs::create_dir_all(precious.parent().unwrap()).unwrap();
    std::fs::write(&precious, "of another").unwrap();
    let gate = shop.open().await;
    assert_eq!(gate.metrics().await.sum(UP, &[]), 0.0);
    drop(gate);
    assert!(precious.exists());
    std::fs::remove_dir_all(shop.path()).unwrap();
    std::fs::write(shop.path(), "a file").unwrap();
    let gate = shop.open().await;
    assert_eq!(gate.metrics().await.sum(UP, &[]), 0.0);
    gate.get("/p").await.expect(200);
    assert!(gate.get("/p").await.expect(200).is_hit());
    drop(gate);
    std::fs::remove_file(shop.path()).unwrap();

    let first = shop.open().await;
    let second = shop.open().await;

    assert_eq!(first.metrics().await.sum(UP, &[]), 1.0);
    assert_eq!(second.metrics().await.sum(UP, &[]), 0.0, "it is another's");
    second.get("/p").await.expect(200);
    fetch(&first, &["/q"]).await;
    assert_eq!(shop.files().len(), 1);
}

#[tokio::test]
async fn a_disk_that_hangs_holds_up_nobody_but_those_who_wait_for_it() {
    let shop = shop().await;
    shop.fill(&["/slow"]).await;
    let gate = shop.reopen(1).await;
    gate.get("/quick").await.expect(200);
    gate.until(WRITES, 1.0).await;
    // Whoever opens it for reading waits until somebody writes.
    let file = shop.files().into_iter().find(|file| {
        let bytes = std::fs::read(file).unwrap();
        bytes.windows(5).any(|window| window == b"/slow")
    });
    let file = file.unwrap();
    std::fs::remove_file(&file).unwrap();
    mknodat(CWD, &file, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();

    let mut waits = gate.client().await;
    waits.write(Request::get("/slow").bytes()).await;
    for _ in 0..10 {
        assert!(gate.get("/quick").await.expect(200).is_hit());
    }

    let answer = waits.answer().await.expect(200);
    assert!(!answer.is_hit(), "{}", answer.cache());
    assert_eq!(answer.body, body("/slow"));
}

#[tokio::test]
async fn what_cannot_be_written_in_time_is_dropped_and_counted() {
    let shop = shop().await;
    let gate = shop.open().await;
    // Whoever opens it for writing waits until somebody reads.
    let new = shop.path().join("new");
    mknodat(CWD, &new, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();

    let targets = ["/large/1", "/large/2", "/large/3"];
    for target in targets {
        gate.get(target).await.expect(200);
    }

    let dropped = "headgate_cache_disk_dropped_total";
    assert_eq!(gate.metrics().await.sum(dropped, &[]), 2.0);
    purge(&gate, json!({ "tag": "3" })).await;
    for (target, is_hit) in targets.into_iter().zip([true, true, false]) {
        let answer = gate.get(target).await.expect(200);
        assert_eq!(answer.is_hit(), is_hit, "{target} {}", answer.cache());
    }
    drop(std::fs::File::open(&new).unwrap());
    gate.until(UP, 0.0).await;
}

#[tokio::test]
async fn it_has_threads_of_its_own() {
    let shop = shop().await;
    let gate = Gate::start(&shop.config()).await;
    let tasks = format!("/proc/{}/task", gate.process.id());
    let name = |task: &PathBuf| std::fs::read_to_string(task.join("comm")).unwrap();
    // A thread names itself once it runs.
    eventually("one writes, and two read", async || {
        let names: Vec<String> = list(Path::new(&tasks)).iter().map(name).collect();
        let of = |wanted: &str| names.iter().filter(|name| name.trim() == wanted).count();
        ((of("headgate-disk"), of("headgate-diskrd")) == (1, 2)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_reload_keeps_it_and_does_not_move_it() {
    let shop = shop().await;
    let gate = Gate::start(&shop.config()).await;
    gate.get("/p").await.expect(200);
    gate.until(WRITES, &[], 1.0).await;

    gate.become_config(&shop.config().top("timeouts: { idle: 7s }"))
        .await;
    assert!(gate.get("/p").await.expect(200).is_hit());
    let elsewhere = shop.config().text().replace("size: 64MiB", "size: 65MiB");
    gate.write(&elsewhere);
    let answer = gate.reload().await.expect(200).json();

    assert_eq!(answer["needs_restart"], json!(["cache.disk"]));
    assert_eq!(gate.metrics().await.sum(UP, &[]), 1.0);
    let limit = gate.metrics().await;
    let limit = limit.sum("headgate_cache_disk_limit_bytes", &[]);
    assert_eq!(limit, f64::from(64 << 20));
}

#[tokio::test]
async fn nobody_else_reads_it_and_nothing_personal_lies_there() {
    let origin = Origin::start("o").await.on("*", |seen| {
        let body = match seen.header("authorization") {
            Some(_) => "secret-of-a-user",
            None => "of all",
        };
        let reply = Reply::ok(body).header("set-cookie", "session=secret-cookie");
        let reply = match seen.path() {
            "/short" => return reply.header("cache-control", "max-age=5"),
            "/private" => return reply.header("cache-control", "private, max-age=100"),
            _ => reply,
        };
        reply
            .header("x-mine", "secret-field")
            .header("cache-control", "max-age=100, private=\"x-mine\"")
    });
    let shop = Shop {
        origin,
        rule: "set_cookie: strip",
        ..shop().await
    };
    let gate = shop.open().await;
    gate.get_with("/user", &[("authorization", "Basic eDp5")])
        .await;
    for target in ["/private", "/short", "/p"] {
        gate.get(target).await.expect(200);
    }
    gate.until(WRITES, 1.0).await;
    drop(gate);

    let files = shop.files();
    assert_eq!(files.len(), 1);
    let bytes = std::fs::read(&files[0]).unwrap();
    let says = |word: &[u8]| bytes.windows(word.len()).any(|window| window == word);
    assert!(says(b"of all") && !says(b"secret"));
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let folder = files[0].parent().unwrap();
    assert_eq!((mode(&files[0]), mode(folder)), (0o600, 0o700));
    assert_eq!(mode(&shop.path().join("journal")), 0o600);
    assert_eq!(mode(&shop.path()), 0o700);
}

#[tokio::test]
async fn parts_that_became_whole_are_there_after_a_restart() {
    let mut shop = shop().await;
    shop.rule = "ranges: pass";
    shop.origin = Origin::start("parts").await.on("*", |seen| {
        let (first, last) = match seen.header("range") {
            Some("bytes=0-29999") => (0, 29_999),
            Some("bytes=30000-59999") => (30_000, 59_999),
            other => panic!("{other:?}"),
        };
        Reply::new(206)
            .body(&body("/p")[first..=last])
            .header("content-range", &format!("bytes {first}-{last}/60000"))
            .header("etag", "\"1\"")
            .header("cache-control", "max-age=100")
    });
    let gate = shop.open().await;
    for range in ["bytes=0-29999", "bytes=30000-59999"] {
        gate.get_with("/p", &[("range", range)]).await.expect(206);
    }
    gate.until(WRITES, 1.0).await;
    drop(gate);
    let gate = shop.reopen(1).await;
    let answer = gate.get("/p").await.expect(200);
    assert!(is_from_disk(&answer), "{}", answer.cache());
    assert_eq!(answer.body, body("/p"));
}
