//! A gRPC client that says exactly what it is told.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::time::Duration;

use axum::http::{HeaderMap, Request, Version};
use bytes::Bytes;
use h2::client::SendRequest;
use prost::Message;
use tokio::runtime::Runtime;

/// How a call ended.
#[derive(Debug)]
pub struct Answer {
    pub http: u16,
    /// The status: 0 is success.
    pub status: i32,
    pub message: String,
    pub body: Vec<u8>,
}

impl Answer {
    /// The one message of a call that succeeded.
    pub fn decode<M: Message + Default>(&self) -> M {
        assert_eq!((self.http, self.status), (200, 0), "{}", self.message);
        assert_eq!(self.body[0], 0, "compressed");
        let length = u32::from_be_bytes(self.body[1..5].try_into().unwrap()) as usize;
        assert_eq!(self.body.len(), 5 + length);
        M::decode(&self.body[5..]).unwrap()
    }
}

/// A message in its frame.
pub fn framed(message: &[u8]) -> Vec<u8> {
    [&[0], &(message.len() as u32).to_be_bytes()[..], message].concat()
}

pub fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

pub async fn within_a_minute<T>(run: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_mins(1), run).await.expect("no answer within a minute")
}

/// Runs a client, for at most a minute.
pub fn client<T>(run: impl Future<Output = T>) -> T {
    runtime().block_on(within_a_minute(run))
}

pub async fn connect(addr: SocketAddr) -> SendRequest<Bytes> {
    let stream = tokio::net::TcpStream::connect(addr).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(async move {
        let _ = connection.await;
    });
    client
}

pub fn request(addr: SocketAddr, path: &str, headers: &[(&'static str, &str)]) -> Request<()> {
    let mut request =
        Request::post(format!("http://{addr}{path}")).version(Version::HTTP_2).body(()).unwrap();
    request.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    request.headers_mut().insert("te", "trailers".parse().unwrap());
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    request
}

/// Sends a body, whatever it is, and reads the answer.
pub async fn send(
    client: SendRequest<Bytes>,
    request: Request<()>,
    body: Vec<u8>,
) -> Result<Answer, h2::Error> {
    let mut client = client.ready().await?;
    let (response, mut stream) = client.send_request(request, false)?;
    let mut body = Bytes::from(body);
    while !body.is_empty() {
        stream.reserve_capacity(body.len());
        match poll_fn(|cx| stream.poll_capacity(cx)).await {
            Some(Ok(capacity)) => stream.send_data(body.split_to(capacity.min(body.len())), false)?,
            // The server has answered already.
            _ => break,
        }
    }
    let _ = stream.send_data(Bytes::new(), true);
    let response = response.await?;
    let (http, mut ending) = (response.status().as_u16(), response.headers().clone());
    let mut stream = response.into_body();
    let mut body = Vec::new();
    while let Some(data) = stream.data().await {
        let data = data?;
        stream.flow_control().release_capacity(data.len())?;
        body.extend_from_slice(&data);
    }
    if let Some(trailers) = stream.trailers().await? {
        ending.extend(trailers);
    }
    let text =
        |ending: &HeaderMap, name: &str| ending.get(name).map(|value| value.to_str().unwrap().to_owned());
    let status = text(&ending, "grpc-status").map_or(-1, |status| status.parse().unwrap());
    let message = text(&ending, "grpc-message").unwrap_or_default();
    let message = percent_encoding::percent_decode_str(&message).decode_utf8().unwrap().into_owned();
    Ok(Answer { http, status, message, body })
}

/// One call on a connection of its own.
pub fn call(
    addr: SocketAddr,
    method: &str,
    headers: &[(&'static str, &str)],
    message: &impl Message,
) -> Answer {
    let body = framed(&message.encode_to_vec());
    client(async { send(connect(addr).await, request(addr, method, headers), body).await.unwrap() })
}
