//! `headgate check`, and starts that fail.

use std::net::TcpListener;
use std::process::{Command, ExitStatus};

use tempfile::TempDir;

use crate::harness::{Authority, Config, Gate, Origin, Process};

const FIVE_MISTAKES: &str = r#"workers: many
listeners:
  - address: 127.0.0.1:8080
timeouts:
  header: 10
  idel: 30s
upstreams:
  products: { endpoints: [127.0.0.1:9101] }
routes:
  - name: a
    match: { path_prefix: /a }
    upstream: product
  - name: b
    match: { path: "/x/{id}" }
    upstream: products
  - name: c
    match: { path: "/x/{name}" }
    upstream: products
"#;

struct Ended {
    status: ExitStatus,
    output: String,
    errors: String,
}

async fn run(command: &str, text: &str) -> Ended {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("gate.yaml"), text).unwrap();
    let mut process = Process::start([command, "-c", "gate.yaml"], folder.path());
    let status = process.end().await;
    Ended {
        status,
        output: process.output().join("\n"),
        errors: process.errors().join("\n"),
    }
}

#[tokio::test]
async fn five_mistakes_give_five_messages_at_their_places() {
    let ended = run("check", FIVE_MISTAKES).await;

    assert_eq!(ended.status.code(), Some(1));
    for (message, place, hint) in [
        (
            "expected a whole number for `workers`",
            "gate.yaml:1:10",
            "",
        ),
        (
            "the duration `10` has no unit",
            "gate.yaml:5:11",
            "write `10s`",
        ),
        (
            "unknown key `idel`",
            "gate.yaml:6:3",
            "did you mean `idle`?",
        ),
        (
            "no upstream is named `product`",
            "gate.yaml:12:15",
            "did you mean `products`?",
        ),
        (
            "the routes `b` and `c` cannot be told apart",
            "gate.yaml:16:11",
            "13 |   - name: b",
        ),
    ] {
        let after = ended.errors.split_once(message).map(|(_, after)| after);
        let after = after.unwrap_or_else(|| panic!("{message} is missing in\n{}", ended.errors));
        let this = after.split("\n\n").next().unwrap();
        assert!(
            this.contains(&format!("--> {place}\n")) && this.contains(hint),
            "{this}"
        );
        assert!(this.contains('^'), "no caret:{this}");
    }
    assert_eq!(
        ended.errors.matches("error: ").count(),
        5,
        "{}",
        ended.errors
    );
    assert!(ended.errors.ends_with("5 errors found"), "{}", ended.errors);
}

#[tokio::test]
async fn a_good_file_is_summed_up() {
    let config = Config::new()
        .listener("address: 127.0.0.2:0")
        .upstream_at("a", "127.0.0.1:1, 127.0.0.1:2", "")
        .upstream_at("b", "127.0.0.1:3", "")
        .shard_map(
            "m",
            "key: { header: x-user }, strategy: modulo, shards: [a, b]",
        )
        .route("x", "path_prefix: /x", "shard_map: m")
        .route("y", "path_prefix: /y", "upstream: a")
        .route("z", "path_prefix: /z", "upstream: b");

    let ended = run("check", &config.text()).await;

    assert_eq!(ended.status.code(), Some(0), "{}", ended.errors);
    let counts = "gate.yaml: ok: 2 listeners, 3 routes, 2 upstreams, 3 endpoints, 1 shard map";
    assert_eq!(ended.output, counts);
}

#[test]
fn the_exit_code_is_right_although_nobody_reads_the_output() {
    let folder = TempDir::new().unwrap();
    let good = Config::new().upstream_at("a", "127.0.0.1:1", "").route(
        "x",
        "path_prefix: /",
        "upstream: a",
    );
    std::fs::write(folder.path().join("good.yaml"), good.text()).unwrap();
    std::fs::write(folder.path().join("bad.yaml"), FIVE_MISTAKES).unwrap();
    for (command, file, code) in [
        ("check", "good.yaml", 0),
        ("check", "bad.yaml", 1),
        ("run", "bad.yaml", 1),
        ("demo", "bad.yaml", 1),
    ] {
        let (reader, output) = std::io::pipe().unwrap();
        drop(reader);
        let status = Command::new(env!("CARGO_BIN_EXE_headgate"))
            .args([command, "-c", file])
            .env("TMPDIR", folder.path())
            .current_dir(folder.path())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .status()
            .unwrap();
        assert_eq!(status.code(), Some(code), "{command} {file}");
    }
}

#[tokio::test]
async fn what_a_config_holds_cannot_control_the_terminal() {
    let text = r#"upstreams:
  "a\e[2J\a": { endpoints: [127.0.0.1:1] }
routes:
  - { name: x, match: { path_prefix: / }, upstream: "a\e[2J" }
"#;
    let ended = run("check", text).await;

    assert_eq!(ended.status.code(), Some(1));
    let hint = "did you mean `a\u{fffd}[2J\u{fffd}`?";
    assert!(ended.errors.contains(hint), "{}", ended.errors);
    let control = |c: char| c.is_control() && c != '\n';
    assert!(!ended.errors.contains(control), "{:?}", ended.errors);
}

#[tokio::test]
async fn a_file_that_is_not_there_is_named() {
    let folder = TempDir::new().unwrap();
    for command in ["check", "run"] {
        let mut process = Process::start([command, "-c", "nowhere.yaml"], folder.path());
        assert_eq!(process.end().await.code(), Some(1));
        let errors = process.errors().join("\n");
        assert!(errors.contains("nowhere.yaml"), "{errors}");
    }
}

#[tokio::test]
async fn a_wrong_config_does_not_start() {
    let ended = run("run", FIVE_MISTAKES).await;

    assert_eq!(ended.status.code(), Some(1));
    assert!(ended.errors.contains("5 errors found"), "{}", ended.errors);
}

#[tokio::test]
async fn tls_files_are_judged_as_a_start_would() {
    let authority = Authority::new("servers");
    let folder = TempDir::new().unwrap();
    for name in ["one", "two"] {
        let pair = authority.issue(&[&format!("{name}.test")], 2040);
        pair.write(folder.path(), name);
    }
    authority
        .issue(&["old.test"], 2001)
        .write(folder.path(), "old");
    std::fs::write(folder.path().join("junk"), "junk").unwrap();
    let judged = async |pair: &str, more: &str| {
        let tls = format!("certificates: [{{ {pair} }}]{more}");
        let config = Config::to_endpoints("127.0.0.1:1", "")
            .only_listener(&format!("address: 127.0.0.1:0, tls: {{ {tls} }}"));
        std::fs::write(folder.path().join("gate.yaml"), config.text()).unwrap();
        let mut process = Process::start(["check", "-c", "gate.yaml"], folder.path());
        let status = process.end().await;
        (status.code(), process.errors().join("\n"))
    };

    let (code, said) = judged("cert: one.pem, key: two.key", "").await;
    assert_eq!(code, Some(1), "{said}");
    assert_eq!(said.matches("cannot be used together").count(), 1, "{said}");
    assert!(said.ends_with("1 error found"), "{said}");
    assert!(
        said.contains("--> gate.yaml:") && said.contains('^'),
        "{said}"
    );
    let (code, said) = judged("cert: one.pem, key: one.key", ", ticket_keys: [junk]").await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("ticket keys from"), "{said}");
    let (code, said) = judged("cert: one.pem, key: one.key, ocsp: junk", "").await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("junk would not be used"), "{said}");
    let (code, said) = judged("cert: old.pem, key: old.key", "").await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("old.pem has expired"), "{said}");
    let (code, said) = judged("cert: one.pem, key: one.key", "").await;
    assert_eq!((code, &*said), (Some(0), ""));
}

#[tokio::test]
async fn a_port_in_use_is_named_and_ends_the_start() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let config = Config::new()
        .only_listener(&format!("address: {address}"))
        .upstream_at("a", "127.0.0.1:1", "")
        .route("x", "path_prefix: /", "upstream: a");

    let ended = run("run", &config.text()).await;

    assert_eq!(ended.status.code(), Some(1));
    let message = format!("cannot listen on {address}: another process listens there already");
    assert!(ended.errors.contains(&message), "{}", ended.errors);
}

#[tokio::test]
async fn an_access_log_that_cannot_be_opened_is_named_and_ends_the_start() {
    let config = Config::new()
        .top("access_log: { format: json, path: nowhere/access.log }")
        .upstream_at("a", "127.0.0.1:1", "")
        .route("x", "path_prefix: /", "upstream: a");

    let ended = run("run", &config.text()).await;

    assert_eq!(ended.status.code(), Some(1));
    assert!(
        ended.errors.contains("nowhere/access.log"),
        "{}",
        ended.errors
    );
}

#[tokio::test]
async fn a_second_headgate_on_the_same_port_is_refused() {
    let origin = Origin::start("a").await;
    let gate = Gate::start(&Config::to(&[&origin])).await;
    let listener = format!("address: {}", gate.address);

    let ended = run(
        "run",
        &Config::to(&[&origin]).only_listener(&listener).text(),
    )
    .await;

    assert_eq!(ended.status.code(), Some(1));
    assert!(
        ended
            .errors
            .contains("another process listens there already"),
        "{}",
        ended.errors
    );
    gate.get("/").await.expect(200);
}

#[tokio::test]
async fn a_wrong_command_line_is_told_apart_from_a_wrong_config() {
    let folder = TempDir::new().unwrap();
    let mut process = Process::start(["run", "--confg", "x"], folder.path());

    assert_eq!(process.end().await.code(), Some(2));
    assert!(process.errors().join("\n").contains("--config"));
}

#[tokio::test]
async fn a_process_whose_config_names_a_file_of_no_use_does_not_start_and_says_where() {
    let text = "listeners: [{ address: 127.0.0.1:0 }]
admin: { address: 127.0.0.1:0 }
upstreams:
  a:
    endpoints: [127.0.0.1:1]
    tls: { ca: gate.yaml }
routes: [{ name: r, upstream: a }]
";
    let ended = run("run", text).await;
    assert_eq!(ended.status.code(), Some(1));
    for part in [
        "error: upstream a: `tls.ca`: cannot use",
        "gate.yaml:6:16",
        "6 |     tls: { ca: gate.yaml }",
        "^^^^^^^^^",
    ] {
        assert!(ended.errors.contains(part), "{part}\n{}", ended.errors);
    }
}

/// What `check` and `run` say of the same config, without and with this in it.
async fn checked(folder: &TempDir, config: &Config) -> (Option<i32>, String) {
    std::fs::write(folder.path().join("gate.yaml"), config.text()).unwrap();
    let mut process = Process::start(["check", "-c", "gate.yaml"], folder.path());
    let status = process.end().await;
    (status.code(), process.errors().join("\n"))
}

#[tokio::test]
async fn an_access_log_that_cannot_be_opened_is_an_error_at_its_place() {
    let folder = TempDir::new().unwrap();
    let to = |path: &str| {
        let top = format!("access_log: {{ format: json, path: {path} }}");
        Config::to_endpoints("127.0.0.1:1", "").top(&top)
    };
    for path in ["nowhere/access.log", "."] {
        let (code, said) = checked(&folder, &to(path)).await;
        assert_eq!(code, Some(1), "{said}");
        assert!(
            said.contains("error: the access log cannot be opened"),
            "{said}"
        );
        assert!(
            said.contains("--> gate.yaml:") && said.contains('^'),
            "{said}"
        );
        assert!(said.ends_with("1 error found"), "{said}");
    }
    assert_eq!(
        checked(&folder, &to("access.log")).await,
        (Some(0), String::new())
    );
    assert!(!folder.path().join("access.log").exists());
    // What is not written is not opened.
    let off =
        Config::to_endpoints("127.0.0.1:1", "").top("access_log: { path: nowhere/access.log }");
    assert_eq!(checked(&folder, &off).await, (Some(0), String::new()));
}

#[tokio::test]
async fn an_endpoint_that_cannot_be_resolved_is_a_warning_and_ends_a_start() {
    let folder = TempDir::new().unwrap();
    let config = Config::to_endpoints("nobody.invalid:80, 127.0.0.1:1", "");

    let (code, said) = checked(&folder, &config).await;
    assert_eq!(code, Some(0), "{said}");
    let warning = "warning: the endpoint nobody.invalid:80 cannot be resolved here: ";
    assert!(said.contains(warning), "{said}");
    assert!(
        said.contains("--> gate.yaml:") && said.contains("^^^^^^^^^^^^^^^^^"),
        "{said}"
    );
    let ended = run("run", &config.text()).await;
    assert_eq!(ended.status.code(), Some(1));
    assert!(
        ended
            .errors
            .contains("nobody.invalid:80 cannot be resolved"),
        "{}",
        ended.errors
    );
}

#[tokio::test]
async fn a_disk_that_the_cache_could_not_use_is_a_warning() {
    let folder = TempDir::new().unwrap();
    std::fs::create_dir(folder.path().join("others")).unwrap();
    std::fs::write(folder.path().join("others/file"), "").unwrap();
    let to = |path: &str| {
        let top = format!("cache: {{ disk: {{ path: {path} }} }}");
        Config::to_endpoints("127.0.0.1:1", "").top(&top)
    };
    for (path, reason) in [
        ("others", "the folder holds files of somebody else"),
        ("others/file", ""),
        ("others/file/below", ""),
    ] {
        let (code, said) = checked(&folder, &to(path)).await;
        assert_eq!(code, Some(0), "{said}");
        let warning = format!("warning: the cache would do without its disk: {reason}");
        assert!(said.contains(&warning), "{said}");
        assert!(
            said.contains("--> gate.yaml:") && said.contains('^'),
            "{said}"
        );
    }
    assert_eq!(
        checked(&folder, &to("new/cache")).await,
        (Some(0), String::new())
    );
    assert!(!folder.path().join("new").exists());
}

#[tokio::test]
async fn a_config_without_routes_does_not_start() {
    let text = "listeners: [{ address: 127.0.0.1:0 }]\nadmin: { address: 127.0.0.1:0 }\n";
    for command in ["check", "run"] {
        let ended = run(command, text).await;
        assert_eq!(ended.status.code(), Some(1), "{command}");
        assert!(
            ended.errors.contains("the config has no `routes`"),
            "{}",
            ended.errors
        );
    }
}
