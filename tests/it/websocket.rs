//! WebSocket through Headgate, with a client and a server as people use them.

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, accept_async, client_async};

use crate::harness::{Config, Gate, patiently};

/// A server that says everything back, and who asks it to close.
async fn echo_server() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let Ok(mut socket) = accept_async(stream).await else {
                    return;
                };
                while let Some(Ok(message)) = socket.next().await {
                    if (message.is_text() || message.is_binary())
                        && socket.send(message).await.is_err()
                    {
                        return;
                    }
                }
            });
        }
    });
    address
}

fn config(server: std::net::SocketAddr) -> Config {
    Config::new()
        .upstream_at("chat", &server.to_string(), "")
        .route("chat", "path_prefix: /", "upstream: chat")
}

async fn open(gate: &Gate) -> WebSocketStream<TcpStream> {
    let stream = TcpStream::connect(gate.address).await.unwrap();
    let url = format!("ws://{}/chat", gate.address);
    let (socket, answer) = client_async(url, stream).await.unwrap();
    assert_eq!(answer.status(), 101);
    socket
}

async fn says_back(socket: &mut WebSocketStream<TcpStream>, text: &str) {
    socket.send(Message::text(text)).await.unwrap();
    let answer = patiently("the echo", socket.next()).await.unwrap().unwrap();
    assert_eq!(answer.into_text().unwrap().as_str(), text);
}

#[tokio::test]
async fn a_websocket_carries_messages_both_ways_and_closes_in_order() {
    let gate = Gate::start(&config(echo_server().await)).await;
    let mut socket = open(&gate).await;
    says_back(&mut socket, "hello").await;
    let long = "x".repeat(300_000);
    says_back(&mut socket, &long).await;
    gate.until(
        "headgate_upstream_tunnels_open",
        &[("upstream", "chat")],
        1.0,
    )
    .await;

    socket.close(None).await.unwrap();

    let end = patiently("the close", async {
        loop {
            match socket.next().await {
                Some(Ok(message)) => assert!(message.is_close(), "{message}"),
                Some(Err(Error::ConnectionClosed)) | None => break,
                Some(Err(error)) => panic!("{error}"),
            }
        }
    });
    end.await;
    drop(socket);
    gate.until(
        "headgate_upstream_tunnels_open",
        &[("upstream", "chat")],
        0.0,
    )
    .await;
}

#[tokio::test]
async fn a_websocket_lives_through_reloads() {
    let config = config(echo_server().await);
    let gate = Gate::start(&config).await;
    let mut socket = open(&gate).await;
    for number in 0..5 {
        gate.hang_up(&config).await;
        says_back(&mut socket, &format!("after reload {number}")).await;
    }
}
