//! HTTP/2 from clients: what they may do, what they may not, and what they get.
//!
//! | file        | is about                                                                       |
//! |-------------|--------------------------------------------------------------------------------|
//! | `rfc9113`   | each MUST of the protocol that binds a server, named after its section         |
//! | `states`    | the same of streams in all their states, and of what is discarded              |
//! | `sender`    | the same of what the server sends                                              |
//! | `tunnels`   | CONNECT, and RFC 8441                                                          |
//! | `rfc7541`   | the same of header compression                                                 |
//! | `requests`  | what is a request and what is none; nothing of a bad one at the origin         |
//! | `floods`    | too much of what is allowed                                                    |
//! | `slow`      | clients that take their time                                                   |
//! | `service`   | what good clients get: bodies, trailers, tunnels, early answers, drains        |
//! | `logged`    | what of a request gets into the log                                            |
//! | `clients`   | curl and the h2 crate                                                          |
//! | `wire`, `hpack` | the client that says whatever a test wants                                 |
//! | `watch`     | looks at every frame that comes back: each MUST that binds a sender            |
//! | `table`     | `docs/http2.md` names each of these tests                                      |

mod clients;
mod floods;
mod hpack;
mod logged;
mod requests;
mod rfc7541;
mod rfc9113;
mod sender;
mod service;
mod slow;
mod states;
mod table;
mod tunnels;
mod watch;
pub(crate) mod wire;

use crate::harness::{Config, Gate, Origin};

use wire::{Answer, Wire};

const CLOSED: &str = "headgate_connections_closed_total";

/// A gate in front of an origin, and a connection to it.
struct Scene {
    origin: Origin,
    gate: Gate,
    wire: Wire,
}

impl Scene {
    async fn new() -> Self {
        Self::with(Origin::start("a").await, "").await
    }

    /// With keys of the top level.
    async fn with(origin: Origin, top: &str) -> Self {
        let mut config = Config::to(&[&origin]).one_worker();
        if !top.is_empty() {
            config = config.top(top);
        }
        let gate = Gate::start(&config).await;
        let wire = Wire::connect(&gate).await;
        Self { origin, gate, wire }
    }

    /// Nothing but whole requests for `/ok` has reached the origin, and others are served.
    #[track_caller]
    fn nothing_else_arrived(&self) -> impl Future<Output = ()> {
        let place = std::panic::Location::caller();
        async move {
            self.gate.get("/ok").await.expect(200);
            for seen in self.origin.seen("*") {
                assert_eq!(seen.path(), "/ok", "{seen:?} ({place})");
                let whole = seen.whole || seen.method == "POST";
                assert!(whole, "{seen:?} ({place})");
            }
        }
    }

    /// The client's frames are an error of this stream with one of these codes, which the server may
    /// make one of its connection (RFC 9113 section 5.4.1).
    async fn refuses_on(&mut self, stream: u32, frames: &[Vec<u8>], codes: &[u32]) -> Answer {
        self.wire.send(frames.concat()).await;
        let end = |wire: &Wire| wire.closed || wire.so_far(stream).reset.is_some();
        self.wire.until("an error", end).await;
        let answer = self.wire.so_far(stream);
        let code = self.wire.goaways.last().map(|(_, code)| *code);
        let code = answer.reset.or(code);
        assert!(
            code.is_some_and(|code| codes.contains(&code)),
            "{code:?} {answer:?}"
        );
        if !self.wire.closed {
            self.wire.is_alive().await;
        }
        self.nothing_else_arrived().await;
        answer
    }

    /// The client's frames end the connection with this code.
    async fn refuses(&mut self, frames: &[Vec<u8>], code: u32) {
        self.wire.send(frames.concat()).await;
        self.wire.ends_with(code).await;
        self.nothing_else_arrived().await;
    }
}
