//! Sockets: accept, HTTP/1.1 connections, drain.
//!
//! `lib.rs` hands in a finished router. Connections are driven by hyper directly, since axum's own
//! server knows neither a bound on connections nor a deadline on heads. The deadline on a whole
//! request, its body included, is in `app`.
//!
//! Invariants: at most [`CONNECTIONS`] are open, the next ones wait in the kernel; a client that sends
//! half a head or stays silent is gone after [`IDLE`]; [`run`] returns within [`DRAIN`] of `shutdown`.

use std::{io, pin::pin, sync::Arc, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time,
};

/// Open connections of one process.
const CONNECTIONS: usize = 1024;
/// Between two requests, and from the first byte of a head to its last. Longer than Headgate keeps
/// an idle upstream connection, so that it is the gate that closes and no request meets a closing socket.
const IDLE: Duration = Duration::from_secs(120);
/// What requests in flight get after a stop was asked for.
const DRAIN: Duration = Duration::from_secs(10);
/// Pause after a failed accept: out of descriptors, trying at once would only spin.
const BACK_OFF: Duration = Duration::from_millis(100);

/// Accepts and serves until `shutdown`, then drains.
pub(crate) async fn run(listener: TcpListener, router: Router, shutdown: impl Future<Output = ()>) {
    let service = TowerToHyperService::new(router);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(IDLE);
    let graceful = GracefulShutdown::new();
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            biased;
            () = &mut shutdown => break,
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "a connection's task failed");
                }
            }
            accepted = accept(&listener, &slots) => match accepted {
                Ok((stream, slot)) => {
                    let connection = http.serve_connection(TokioIo::new(stream), service.clone());
                    let connection = graceful.watch(connection);
                    connections.spawn(async move {
                        // A client that hangs up or breaks the protocol is its own affair.
                        if let Err(error) = connection.await {
                            tracing::debug!(%error, "a connection ended early");
                        }
                        drop(slot);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "accepting failed; trying again shortly");
                    time::sleep(BACK_OFF).await;
                }
            },
        }
    }
    drop(listener);
    if time::timeout(DRAIN, graceful.shutdown()).await.is_err() {
        tracing::warn!("requests were cut off at the end of the drain");
    }
    connections.shutdown().await;
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots)
        .acquire_owned()
        .await
        .map_err(io::Error::other)?;
    let (stream, _peer) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, slot))
}
