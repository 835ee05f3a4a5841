//! gRPC through Headgate, with a client and a server as services use them.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;

use bytes::{Buf as _, BufMut as _, Bytes};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::{Stream, StreamExt as _, wrappers::ReceiverStream};
use tonic::body::Body;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::{Service, http};
use tonic::metadata::MetadataValue;
use tonic::server::NamedService;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Code, Request, Response, Status, Streaming};

use crate::harness::{Config, Gate, patiently};

/// Messages are bytes.
#[derive(Default, Clone, Copy)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

type Messages = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

/// Says each message back as it comes; `fail` ends the call with an error.
#[derive(Clone)]
struct Echo;

impl NamedService for Echo {
    const NAME: &'static str = "test.Echo";
}

impl Service<http::Request<Body>> for Echo {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(
        &mut self,
        _cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Infallible>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        struct Call;
        impl tonic::server::StreamingService<Bytes> for Call {
            type Response = Bytes;
            type ResponseStream = Messages;
            type Future = Pin<Box<dyn Future<Output = Result<Response<Messages>, Status>> + Send>>;

            fn call(&mut self, request: Request<Streaming<Bytes>>) -> Self::Future {
                let messages = request.into_inner().map(|message| match message {
                    Ok(text) if &*text == b"fail" => {
                        Err(Status::new(Code::FailedPrecondition, "as asked"))
                    }
                    other => other,
                });
                Box::pin(async { Ok(Response::new(Box::pin(messages) as Messages)) })
            }
        }
        Box::pin(async {
            let mut server = tonic::server::Grpc::new(Raw);
            Ok(server.streaming(Call, request).await)
        })
    }
}

async fn echo_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let incoming = tonic::transport::server::TcpIncoming::from(listener);
    tokio::spawn(
        Server::builder()
            .add_service(Echo)
            .serve_with_incoming(incoming),
    );
    address
}

async fn through_headgate(server: SocketAddr) -> (Gate, Grpc<Channel>) {
    let config = Config::new()
        .upstream_at("echo", &server.to_string(), "protocol: h2")
        .route("echo", "path_prefix: /test.Echo", "upstream: echo");
    let gate = Gate::start(&config).await;
    let url = format!("http://{}", gate.address);
    let channel = Endpoint::from_shared(url).unwrap().connect().await.unwrap();
    (gate, Grpc::new(channel))
}

async fn call(
    client: &mut Grpc<Channel>,
    path: &'static str,
    messages: impl Stream<Item = Bytes> + Send + 'static,
) -> Result<Response<Streaming<Bytes>>, Status> {
    client.ready().await.unwrap();
    let path = http::uri::PathAndQuery::from_static(path);
    let call = client.streaming(Request::new(messages), path, Raw);
    patiently("a call", call).await
}

#[tokio::test]
async fn messages_stream_both_ways_one_by_one() {
    let (_gate, mut client) = through_headgate(echo_server().await).await;
    let (send, receive) = mpsc::channel(1);
    let answer = call(&mut client, "/test.Echo/Say", ReceiverStream::new(receive)).await;
    let mut answers = answer.unwrap().into_inner();
    for number in 0..10 {
        let text = Bytes::from(format!("message {number}"));
        // The next is sent only when the one before has come back: nothing may be held together.
        send.send(text.clone()).await.unwrap();
        let back = patiently("the echo", answers.message()).await.unwrap();
        assert_eq!(back, Some(text));
    }
    drop(send);
    assert_eq!(patiently("the end", answers.message()).await.unwrap(), None);
}

#[tokio::test]
async fn a_status_of_the_server_comes_through_in_trailers() {
    let (_gate, mut client) = through_headgate(echo_server().await).await;
    let messages = tokio_stream::iter([Bytes::from("one"), Bytes::from("fail")]);
    let answer = call(&mut client, "/test.Echo/Say", messages).await;
    let mut answers = answer.unwrap().into_inner();
    let first = patiently("a message", answers.message()).await.unwrap();
    assert_eq!(first.as_deref(), Some(&b"one"[..]));
    let status = patiently("the status", answers.message())
        .await
        .unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::FailedPrecondition, "as asked")
    );
}

#[tokio::test]
async fn metadata_reaches_the_server_and_a_large_message_comes_back_whole() {
    let (_gate, mut client) = through_headgate(echo_server().await).await;
    let large = Bytes::from(vec![7; 1_000_000]);
    client.ready().await.unwrap();
    let mut request = Request::new(tokio_stream::iter([large.clone()]));
    let value = MetadataValue::try_from("yes").unwrap();
    request.metadata_mut().insert("x-mine", value);
    let path = http::uri::PathAndQuery::from_static("/test.Echo/Say");
    let answer = patiently("a call", client.streaming(request, path, Raw)).await;
    let mut answers = answer.unwrap().into_inner();
    let back = patiently("the echo", answers.message()).await.unwrap();
    assert!(back == Some(large), "another message came back");
}

#[tokio::test]
async fn headgate_says_its_own_errors_as_grpc_statuses() {
    // Nobody listens there.
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = nobody.local_addr().unwrap();
    drop(nobody);
    let (_gate, mut client) = through_headgate(address).await;
    let unreachable = call(&mut client, "/test.Echo/Say", tokio_stream::empty()).await;
    assert_eq!(unreachable.unwrap_err().code(), Code::Unavailable);
    let no_route = call(&mut client, "/test.Other/Say", tokio_stream::empty()).await;
    assert_eq!(no_route.unwrap_err().code(), Code::Unimplemented);
}
