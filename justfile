# `just` alone lists what there is.

set shell := ["bash", "-euo", "pipefail", "-c"]

[private]
default:
    @just --list --unsorted

# Everything that CI checks.
check: fmt deny lint test doc fuzz-check

# Is it formatted?
fmt:
    cargo fmt --all --check

# Licences, banned crates, duplicates, sources.
deny:
    cargo fetch --locked --quiet
    cargo deny --offline check bans licenses sources

# Clippy over every target; a warning is an error.
lint:
    cargo clippy --workspace --all-targets --locked -- -D warnings

# Every test.
test:
    cargo test --workspace --locked

# The documentation builds; a warning is an error.
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items --locked

# The fuzz targets still compile: they are a workspace of their own.
fuzz-check:
    RUSTFLAGS="--cfg fuzzing -D warnings" cargo check --manifest-path fuzz/Cargo.toml --bins --locked

# Known vulnerabilities; fetches RustSec's database from the network.
advisories:
    cargo deny check advisories

# Formats, and applies what clippy can repair.
fix:
    cargo fmt --all
    cargo clippy --workspace --all-targets --fix --allow-dirty --allow-staged
    cargo fmt --all

# Headgate beside its peers; ten minutes and a build. Arguments go to the bench (see benches/README.md).
bench *args:
    cargo bench --bench compare -- {{ args }}

# Serves a config.
run config="config.example.yaml":
    cargo run --release -- run -c {{ config }}

# Headgate in front of the reference shop.
demo:
    cargo run --release -- demo

# The binary for releases, without the demo.
dist:
    cargo build --profile dist --no-default-features --locked
