//! What the operator typed: the keys of a config file and the shapes of their values.
//!
//! `reader` fills these from the tree of `marks`; `convert` gives them meaning. No defaults, no
//! references and no units in here: a value is the text that was typed, a number or a list of them.
//! Invariant: the field names are the accepted keys, all of them; every field is `Lenient`, so that
//! a value that cannot be read is reported once and the rest of the file is read all the same.
//! A struct named `X or just FIELD` may be written as the bare value of that field.

mod reader;
mod scalar;

use serde::Deserialize;

pub(crate) use reader::{Lenient, Named, read};
pub(crate) use scalar::{Scalar, resolve};

/// A list whose items are read one by one.
pub(crate) type List<T> = Lenient<Vec<Lenient<T>>>;
/// A scalar as it was typed: `30s`, `127.0.0.1:80`, `007`.
pub(crate) type Text = Lenient<String>;
pub(crate) type Whole = Lenient<i128>;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) workers: Whole,
    pub(crate) listeners: List<Listener>,
    pub(crate) admin: Lenient<Admin>,
    pub(crate) acme: Lenient<Acme>,
    pub(crate) timeouts: Lenient<ClientTimeouts>,
    pub(crate) log: Lenient<Log>,
    pub(crate) access_log: Lenient<AccessLog>,
    pub(crate) cache: Lenient<CacheStore>,
    pub(crate) limits: Lenient<Limits>,
    pub(crate) trusted_proxies: List<String>,
    pub(crate) forwarded: Text,
    pub(crate) paths: Lenient<Paths>,
    pub(crate) claims: Lenient<Claims>,
    pub(crate) underscore_headers: Text,
    pub(crate) trace: Lenient<bool>,
    pub(crate) upstreams: Lenient<Named<Upstream>>,
    pub(crate) shard_maps: Lenient<Named<ShardMap>>,
    pub(crate) routes: List<Route>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Listener {
    pub(crate) address: Text,
    pub(crate) mode: Text,
    pub(crate) protocols: List<String>,
    pub(crate) proxy_protocol: Lenient<ProxyProtocol>,
    pub(crate) tls: Lenient<Tls>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ProxyProtocol {
    pub(crate) from: List<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Http2Limits {
    pub(crate) streams: Whole,
    pub(crate) resets: Whole,
    pub(crate) stream_window: Text,
    pub(crate) connection_window: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Tls {
    pub(crate) certificates: List<Certificate>,
    pub(crate) acme: Lenient<bool>,
    pub(crate) min_version: Text,
    pub(crate) cipher_suites: List<String>,
    pub(crate) client_auth: Lenient<ClientAuth>,
    pub(crate) ticket_keys: List<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Certificate {
    pub(crate) cert: Text,
    pub(crate) key: Text,
    pub(crate) ocsp: Text,
    pub(crate) client_auth: Lenient<ClientAuth>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ClientAuth {
    pub(crate) mode: Text,
    pub(crate) ca: Text,
    pub(crate) crl: Text,
    pub(crate) forward_chain: Lenient<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Acme {
    pub(crate) domains: List<String>,
    pub(crate) certificates: List<AcmeCertificate>,
    pub(crate) contact: List<String>,
    pub(crate) terms_agreed: Lenient<bool>,
    pub(crate) directory: Text,
    pub(crate) staging: Lenient<bool>,
    pub(crate) challenge: Text,
    pub(crate) state: Text,
    pub(crate) ca: Text,
    pub(crate) external_account: Lenient<ExternalAccount>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct AcmeCertificate {
    pub(crate) domains: List<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ExternalAccount {
    pub(crate) key_id: Text,
    pub(crate) hmac_key_file: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Admin {
    pub(crate) address: Text,
    pub(crate) hosts: List<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ClientTimeouts {
    pub(crate) header: Text,
    pub(crate) idle: Text,
    pub(crate) body_idle: Text,
    pub(crate) min_rate: Text,
    pub(crate) shutdown: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Log {
    pub(crate) level: Text,
    pub(crate) format: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct AccessLog {
    pub(crate) format: Text,
    pub(crate) path: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct CacheStore {
    pub(crate) memory: Text,
    pub(crate) max_object: Text,
    pub(crate) disk: Lenient<CacheDisk>,
    pub(crate) startup_grace: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct CacheDisk {
    pub(crate) path: Text,
    pub(crate) size: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Limits {
    pub(crate) header_bytes: Text,
    pub(crate) headers: Whole,
    pub(crate) uri_bytes: Text,
    pub(crate) requests_per_connection: Whole,
    pub(crate) connections: Whole,
    pub(crate) connections_per_address: Whole,
    pub(crate) body: Text,
    pub(crate) http2: Lenient<Http2Limits>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Claims {
    pub(crate) keep: List<String>,
    pub(crate) trusted_only: List<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Paths {
    pub(crate) encoded_slash: Text,
    pub(crate) semicolon: Text,
    pub(crate) merge_slashes: Lenient<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Upstream {
    pub(crate) balance: Text,
    pub(crate) endpoints: List<Endpoint>,
    pub(crate) sticky: Lenient<Sticky>,
    pub(crate) health_check: Lenient<HealthCheck>,
    pub(crate) timeouts: Lenient<UpstreamTimeouts>,
    pub(crate) max_idle: Whole,
    pub(crate) protocol: Text,
    pub(crate) tls: Lenient<UpstreamTls>,
    pub(crate) proxy_protocol: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct UpstreamTls {
    pub(crate) ca: Text,
    pub(crate) server_name: Text,
    pub(crate) cert: Text,
    pub(crate) key: Text,
    pub(crate) min_version: Text,
    pub(crate) verify: Lenient<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename = "Endpoint or just address")]
pub(crate) struct Endpoint {
    pub(crate) address: Text,
    pub(crate) weight: Whole,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Sticky {
    pub(crate) cookie: Text,
    pub(crate) key: Lenient<Secret>,
    pub(crate) key_file: Text,
}

/// A host to match; `reader` says what to do instead of a list.
#[derive(Debug, Deserialize)]
pub(crate) struct Host(pub(crate) String);

/// A text that `reader` keeps out of every message and out of the document.
#[derive(Deserialize)]
pub(crate) struct Secret(pub(crate) String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct HealthCheck {
    #[serde(rename = "type")]
    pub(crate) kind: Text,
    pub(crate) path: Text,
    pub(crate) host: Text,
    pub(crate) status: Whole,
    pub(crate) interval: Text,
    pub(crate) timeout: Text,
    pub(crate) healthy_threshold: Whole,
    pub(crate) unhealthy_threshold: Whole,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct UpstreamTimeouts {
    pub(crate) connect: Text,
    pub(crate) first_byte: Text,
    pub(crate) body_idle: Text,
    pub(crate) idle: Text,
    pub(crate) tunnel_idle: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ShardMap {
    pub(crate) key: Lenient<ShardKey>,
    pub(crate) strategy: Text,
    pub(crate) shards: List<Shard>,
    pub(crate) default: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ShardKey {
    pub(crate) path: Text,
    pub(crate) header: Text,
    pub(crate) cookie: Text,
    pub(crate) query: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename = "Shard or just upstream")]
pub(crate) struct Shard {
    pub(crate) upstream: Text,
    pub(crate) values: List<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Route {
    pub(crate) name: Text,
    #[serde(rename = "match")]
    pub(crate) matches: Lenient<Match>,
    pub(crate) upstream: Text,
    pub(crate) shard_map: Text,
    pub(crate) files: Lenient<Files>,
    pub(crate) cache: Lenient<CacheRule>,
    pub(crate) compress: Lenient<Compress>,
    pub(crate) redirect: Lenient<Redirect>,
    pub(crate) respond: Lenient<Respond>,
    pub(crate) rewrite: Lenient<Rewrite>,
    pub(crate) request_headers: Lenient<HeaderEdits>,
    pub(crate) response_headers: Lenient<HeaderEdits>,
    pub(crate) hsts: Lenient<Hsts>,
    pub(crate) cors: Lenient<Cors>,
    pub(crate) max_body: Text,
    pub(crate) upgrades: List<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Match {
    pub(crate) host: Lenient<Host>,
    pub(crate) path: Text,
    pub(crate) path_prefix: Text,
    pub(crate) methods: List<String>,
    pub(crate) headers: Lenient<Named<ValuePattern>>,
    pub(crate) query: Lenient<Named<ValuePattern>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename = "ValuePattern or just exact")]
pub(crate) struct ValuePattern {
    pub(crate) exact: Text,
    pub(crate) present: Lenient<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct CacheRule {
    pub(crate) default_ttl: Text,
    pub(crate) heuristic: Text,
    pub(crate) status_ttl: Lenient<Named<String>>,
    pub(crate) stale_while_revalidate: Text,
    pub(crate) stale_if_error: Text,
    pub(crate) request_directives: Text,
    pub(crate) set_cookie: Text,
    pub(crate) ignore_cookies: List<String>,
    pub(crate) purge: List<String>,
    pub(crate) debug: List<String>,
    pub(crate) ranges: Text,
    pub(crate) key: Lenient<KeyRule>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct KeyRule {
    pub(crate) query: Lenient<QueryRule>,
    pub(crate) headers: List<String>,
    pub(crate) cookies: List<String>,
    pub(crate) device: Lenient<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct QueryRule {
    pub(crate) keep: List<String>,
    pub(crate) drop: List<String>,
    pub(crate) sort: Lenient<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Files {
    pub(crate) root: Text,
    pub(crate) index: Text,
    pub(crate) fallback: Text,
    pub(crate) precompressed: List<String>,
    pub(crate) cache_control: Text,
    pub(crate) hidden: Lenient<bool>,
    pub(crate) listing: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Redirect {
    pub(crate) to: Text,
    pub(crate) status: Whole,
    pub(crate) https: Lenient<bool>,
    pub(crate) port: Whole,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Compress {
    pub(crate) algorithms: List<String>,
    pub(crate) min_size: Text,
    pub(crate) types: List<String>,
    pub(crate) level: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Respond {
    pub(crate) status: Whole,
    pub(crate) body: Text,
    pub(crate) content_type: Text,
    pub(crate) headers: Lenient<Named<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Rewrite {
    pub(crate) strip_prefix: Text,
    pub(crate) replace_prefix: Text,
    pub(crate) path: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct HeaderEdits {
    pub(crate) set: Lenient<Named<String>>,
    pub(crate) add: Lenient<Named<String>>,
    pub(crate) remove: List<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Hsts {
    pub(crate) max_age: Text,
    pub(crate) include_subdomains: Lenient<bool>,
    pub(crate) preload: Lenient<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Cors {
    pub(crate) origins: List<String>,
    pub(crate) methods: List<String>,
    pub(crate) headers: List<String>,
    pub(crate) expose: List<String>,
    pub(crate) credentials: Lenient<bool>,
    pub(crate) max_age: Text,
}

#[cfg(test)]
pub(crate) mod keys;
