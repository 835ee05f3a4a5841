//! A new connection to an endpoint, ready for HTTP.
//!
//! `exchange` and `http2` ask for one when none is at hand: the socket, the PROXY header and the TLS
//! handshake, all within `timeouts.connect`. Invariant: whatever goes wrong here, no byte of a request
//! was sent, so the request is still whole.

use std::future::{Future as _, poll_fn};
use std::io;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

use crate::body::BoxError;
use crate::metrics::ProxyError as Reason;
use crate::net::dial;
use crate::net::hop::HopError;
use crate::net::socket::Socket;
use crate::net::stream::Stream;

use super::error::tls_reason;
use super::pool::{Pools, Target};

/// Why there is no connection.
pub(super) type NoConnection = (Reason, Option<BoxError>);

impl Pools {
    /// Makes a connection within `target.timeouts.connect`; says how long that took.
    pub(super) async fn connect(
        &self,
        target: &Target<'_>,
    ) -> Result<(Stream, Duration), NoConnection> {
        let before = Instant::now();
        let timer = self.deadlines().timer();
        timer.arm(target.timeouts.connect);
        // Boxed: most requests need no connection, and room for this one would be in all of them.
        let mut connecting = pin!(Box::pin(self.prepare(target)));
        let stream = poll_fn(|cx| {
            if let Poll::Ready(result) = connecting.as_mut().poll(cx) {
                return Poll::Ready(result);
            }
            timer
                .poll(cx)
                .map(|()| Err((Reason::ConnectionTimeout, None)))
        })
        .await?;
        Ok((stream, before.elapsed()))
    }

    async fn prepare(&self, target: &Target<'_>) -> Result<Stream, NoConnection> {
        let endpoint = target.endpoint;
        let socket = dial::connect(&endpoint.socket)
            .await
            .map_err(|error| (dial_reason(&error), Some(error.into())))?;
        let socket = Socket::new(socket, self.batch());
        let ready = target
            .hop
            .prepare(socket, &endpoint.address, target.client)
            .await
            .map_err(|error| (hop_reason(&error), Some(error.into())))?;
        Ok(ready.into())
    }

    /// Counts a connection that was made.
    pub(super) fn count_connection(&self, target: &Target<'_>, took: Duration) {
        let worker = self.worker();
        target.upstream_metrics.worker(worker).connected(took);
        target.metrics.worker(worker).opened();
    }
}

fn dial_reason(error: &io::Error) -> Reason {
    match error.kind() {
        _ if dial::is_ours(error) => Reason::ConnectionLimitReached,
        io::ErrorKind::ConnectionRefused => Reason::ConnectionRefused,
        io::ErrorKind::TimedOut => Reason::ConnectionTimeout,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            Reason::DestinationIpUnroutable
        }
        _ => Reason::ConnectionTerminated,
    }
}

fn hop_reason(error: &HopError) -> Reason {
    match error {
        HopError::Io(_) => Reason::ConnectionTerminated,
        HopError::Tls(error) => tls_reason(error).unwrap_or(Reason::ConnectionTerminated),
        HopError::Protocol => Reason::TlsProtocolError,
        HopError::Name => Reason::ProxyConfigurationError,
    }
}
