//! Streams over HTTP: formats, the first item at once, errors before and after it, clients that go away, ends and updates.

use std::io::{Read, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use air_core::BoxError;
use air_serve::{App, Deployment, Raw, Registry, Server, run, stream_each};
use serde_json::Value;

use super::{Do, counter};
use crate::client::{connect, get, post, write};
use crate::wait::until;

/// A response whose body comes in chunks.
struct Chunked {
    stream: TcpStream,
    head: String,
}

impl Chunked {
    fn status(&self) -> u16 {
        self.head[9..12].parse().unwrap()
    }

    fn has(&self, header: &str) -> bool {
        self.head.lines().any(|line| line.eq_ignore_ascii_case(header))
    }

    fn line(&mut self) -> String {
        let mut line = Vec::new();
        let mut byte = [0];
        while !line.ends_with(b"\r\n") {
            assert_eq!(self.stream.read(&mut byte).unwrap(), 1, "it was broken off");
            line.push(byte[0]);
        }
        String::from_utf8(line).unwrap().trim_end().to_owned()
    }

    /// The next chunk; empty at the end.
    fn chunk(&mut self) -> String {
        let length = usize::from_str_radix(&self.line(), 16).unwrap();
        let mut chunk = vec![0; length + 2];
        self.stream.read_exact(&mut chunk).unwrap();
        chunk.truncate(length);
        String::from_utf8(chunk).unwrap()
    }

    fn rest(&mut self) -> String {
        let mut body = String::new();
        loop {
            let chunk = self.chunk();
            if chunk.is_empty() {
                return body;
            }
            body.push_str(&chunk);
        }
    }
}

fn head(mut stream: TcpStream) -> Chunked {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        assert_eq!(stream.read(&mut byte).unwrap(), 1, "closed inside a head");
        head.push(byte[0]);
    }
    Chunked { stream, head: String::from_utf8(head).unwrap() }
}

fn ask(addr: SocketAddr, path: &str, accept: &str, body: &str) -> Chunked {
    let mut stream = connect(addr);
    write(&mut stream, "POST", path, &format!("Accept: {accept}\r\n"), body);
    head(stream)
}

/// A line for each number up to there.
fn lines(of: u32) -> String {
    (0..of).fold(String::new(), |lines, item| lines + &item.to_string() + "\n")
}

fn serve(app: App) -> Server {
    run(app.with_http(|http| {
        http.port = 0;
        http.threads = 2;
    }))
    .unwrap()
}

/// Gives the words of a text; a word `!` is an error.
fn words(text: String) -> Result<impl Iterator<Item = Result<String, BoxError>>, BoxError> {
    let words: Vec<String> = text.split_inclusive(' ').map(str::to_owned).collect();
    Ok(words.into_iter().map(|word| if word.trim() == "!" { Err("a bang".into()) } else { Ok(word) }))
}

fn spoken() -> Server {
    let raw = |text: String| Ok(words(text)?.map(|word| word.map(Raw::from)));
    serve(
        App::new()
            .route("/words", Deployment::generate("words", || Ok(stream_each(words))))
            .route("/raw", Deployment::generate("raw", move || Ok(stream_each(raw)))),
    )
}

#[test]
fn a_stream_is_written_as_the_client_asks() {
    let server = spoken();
    let body = |path: &str, accept: &str| {
        let mut response = ask(server.addr(), path, accept, "\"to be \\\"or\\\" not\"");
        assert_eq!(response.status(), 200);
        let kind = response.head.lines().find(|line| line.starts_with("content-type: ")).unwrap();
        (kind["content-type: ".len()..].to_owned(), response.rest())
    };
    let of = |kind: &str, body: &str| (kind.to_owned(), body.to_owned());
    let lines = "\"to \"\n\"be \"\n\"\\\"or\\\" \"\n\"not\"\n";
    assert_eq!(body("/words", "*/*"), of("application/x-ndjson", lines));
    assert_eq!(body("/words", "application/x-ndjson"), of("application/x-ndjson", lines));
    let events = "data: \"to \"\n\ndata: \"be \"\n\ndata: \"\\\"or\\\" \"\n\ndata: \"not\"\n\n";
    assert_eq!(body("/words", "text/event-stream"), of("text/event-stream", events));
    assert_eq!(body("/words", "text/plain"), of("text/plain; charset=utf-8", "to be \"or\" not"));
    assert_eq!(body("/raw", "*/*"), of("application/octet-stream", "to be \"or\" not"));
    assert_eq!(body("/raw", "text/plain"), of("text/plain; charset=utf-8", "to be \"or\" not"));
    // The connection is as good as after any other answer.
    let mut response = ask(server.addr(), "/words", "*/*", "\"a\"");
    assert_eq!(response.rest(), "\"a\"\n");
    assert!(response.has("transfer-encoding: chunked") && response.head.contains("x-request-id: "));
    write(&mut response.stream, "POST", "/words", "", "\"b\"");
    assert_eq!(head(response.stream).rest(), "\"b\"\n");
    let empty = post(server.addr(), "/words", "\"\"");
    assert_eq!((empty.status, empty.header("content-type")), (200, Some("application/x-ndjson")));
    let paths: Value = serde_json::from_str(&get(server.addr(), "/openapi.json").body).unwrap();
    let content = &paths["paths"]["/words"]["post"]["responses"]["200"]["content"];
    assert!(content.get("text/event-stream").is_some() && content.get("application/x-ndjson").is_some());
}

#[test]
fn an_error_is_a_status_before_the_first_item_and_a_last_word_after_it() {
    let server = spoken();
    let refused = post(server.addr(), "/words", "\"! too late\"");
    assert_eq!(refused.status, 500);
    assert_eq!(refused.body, "{\"error\":\"replica words#0 failed: a bang\"}");
    assert_eq!(post(server.addr(), "/words", "nonsense").status, 400);
    assert_eq!(post(server.addr(), "/words", "7").status, 422);
    let last = |accept: &str| ask(server.addr(), "/words", accept, "\"so ! far\"").rest();
    let told = "{\"error\":\"replica words#0 failed: a bang\"}";
    assert_eq!(last("*/*"), format!("\"so \"\n{told}\n"));
    assert_eq!(last("text/event-stream"), format!("data: \"so \"\n\nevent: error\ndata: {told}\n\n"));
    // What would be taken for a part of the answer is not said; the answer is broken off.
    let mut raw = ask(server.addr(), "/raw", "*/*", "\"so ! far\"");
    let mut rest = Vec::new();
    let _ = raw.stream.read_to_end(&mut rest);
    let rest = String::from_utf8(rest).unwrap();
    assert!(rest.starts_with("3\r\nso \r\n") && !rest.ends_with("0\r\n\r\n"), "{rest}");
}

#[test]
fn each_item_goes_out_when_it_is_there() {
    let (steps, deployment) = counter();
    let server = serve(App::new().route("/count", deployment));
    let mut stream = connect(server.addr());
    write(&mut stream, "POST", "/count", "Accept: text/event-stream\r\n", "3");
    assert_eq!(steps.step(Do::Step), [3]);
    // The model is held at its second step, and the client has the first item.
    let mut response = head(stream);
    assert_eq!(response.chunk(), "data: 0\n\n");
    assert_eq!(steps.step(Do::Step), [3]);
    assert_eq!(response.chunk(), "data: 1\n\n");
    steps.free();
    assert_eq!(response.rest(), "data: 2\n\n");
}

#[test]
fn a_client_that_goes_away_takes_its_sequence_with_it() {
    let (steps, deployment) = counter();
    let server = serve(App::new().route("/count", deployment));
    let mut stream = connect(server.addr());
    write(&mut stream, "POST", "/count", "", "1000000");
    assert_eq!(steps.step(Do::Step), [1_000_000]);
    let mut response = head(stream);
    assert_eq!(response.chunk(), "0\n");
    drop(response);
    until("it is dropped", || {
        // Steps go on until the server has seen it.
        let _ = steps.go.send(Do::Step);
        steps.dropped.load(Ordering::SeqCst) == 1
    });
    // One that goes before there is anything to answer with.
    while steps.begun.try_recv().is_ok() {}
    let mut stream = connect(server.addr());
    write(&mut stream, "POST", "/count", "", "2000000");
    let _ = steps.begun.recv_timeout(Duration::from_mins(1)).unwrap();
    drop(stream);
    until("it is dropped", || {
        let _ = steps.go.send(Do::Step);
        steps.dropped.load(Ordering::SeqCst) == 2
    });
}

#[test]
fn a_client_that_reads_slowly_holds_up_its_own_stream_only() {
    const LONG: u32 = 2_000_000;
    let deployment = Deployment::generate("count", || Ok(stream_each(|of: u32| Ok((0..of).map(Ok)))));
    let server = serve(App::new().route("/count", deployment));
    let mut slow = connect(server.addr());
    write(&mut slow, "POST", "/count", "", LONG.to_string());
    let others: Vec<_> = (0..4)
        .map(|_| {
            let addr = server.addr();
            thread::spawn(move || ask(addr, "/count", "*/*", "20000").rest())
        })
        .collect();
    let expected = lines(20_000);
    for other in others {
        assert!(other.join().unwrap() == expected, "they have all of theirs, in order");
    }
    // What it has not read is nowhere: at most buffers are full.
    assert!(!server.metrics().contains("air_serve_stream_items_total{deployment=\"count\"} 2080000"));
    let expected = lines(LONG);
    assert!(head(slow).rest() == expected, "and it has all of its own when it reads on");
}

#[test]
fn shutting_down_finishes_streams() {
    let (steps, deployment) = counter();
    let server = serve(App::new().route("/count", deployment));
    let addr = server.addr();
    let mut stream = connect(addr);
    write(&mut stream, "POST", "/count", "", "3");
    assert_eq!(steps.step(Do::Step), [3]);
    let mut response = head(stream);
    assert_eq!(response.chunk(), "0\n");
    let down = thread::spawn(move || server.shutdown());
    while TcpStream::connect(addr).is_ok() {
        thread::yield_now();
    }
    steps.free();
    assert_eq!(response.rest(), "1\n2\n");
    down.join().unwrap();
}

#[test]
fn an_update_finishes_the_streams_of_the_version_before() {
    let ((before, old), (after, new)) = (counter(), counter());
    let server = serve(App::new().route("/count", old.version("1")));
    let mut stream = connect(server.addr());
    write(&mut stream, "POST", "/count", "", "3");
    assert_eq!(before.step(Do::Step), [3]);
    let mut response = head(stream);
    assert_eq!(response.chunk(), "0\n");
    server.update(new.version("2")).unwrap();
    after.free();
    let mut next = ask(server.addr(), "/count", "*/*", "2");
    assert_eq!(next.rest(), "0\n1\n");
    before.free();
    assert_eq!(response.rest(), "1\n2\n");
    assert!(after.begun.try_iter().all(|on| on == [2]), "the old one went on where it was");
}

#[test]
fn a_version_that_does_not_finish_in_time_tells_its_clients() {
    let ((before, old), (after, new)) = (counter(), counter());
    let old = old.version("1").with(|config| config.graceful_shutdown_timeout_s = 0.2);
    let server = serve(App::new().route("/count", old));
    let mut stream = connect(server.addr());
    write(&mut stream, "POST", "/count", "", "3");
    assert_eq!(before.step(Do::Step), [3]);
    let mut response = head(stream);
    assert_eq!(response.chunk(), "0\n");
    server.update(new.version("2")).unwrap();
    let end = response.rest();
    assert_eq!(
        end,
        "{\"error\":\"replica model#0 was given up: it had not finished 200ms after it was told to end\"}\n"
    );
    before.free();
    after.free();
}

#[test]
fn sixty_four_clients_have_all_their_items_over_http_2_too() {
    use std::future::poll_fn;

    use crate::v2::rpc::client;
    let deployment = Deployment::generate("count", || Ok(stream_each(|of: u32| Ok((0..of).map(Ok)))))
        .with(|config| config.max_batch_size = 64);
    let server = serve(App::new().route("/count", deployment));
    let addr = server.addr();
    let expected = lines(500);
    let bodies = client(async {
        let stream = tokio::net::TcpStream::connect(addr).await.unwrap();
        // As clients have it that are made for many streams; h2 by itself takes a hundred small frames for an attack.
        let mut settings = h2::client::Builder::new();
        settings.initial_connection_window_size(4 << 20);
        let (h2, connection) = settings.handshake::<_, bytes::Bytes>(stream).await.unwrap();
        tokio::spawn(async move { connection.await.unwrap() });
        let one = |accept: &'static str| {
            let h2 = h2.clone();
            async move {
                let request = axum::http::Request::post(format!("http://{addr}/count"))
                    .version(axum::http::Version::HTTP_2)
                    .header("accept", accept)
                    .body(())
                    .unwrap();
                let mut h2 = h2.ready().await.unwrap();
                let (response, mut sent) = h2.send_request(request, false).unwrap();
                sent.send_data("500".into(), true).unwrap();
                let response = response.await.unwrap();
                assert_eq!(response.status(), 200);
                let mut stream = response.into_body();
                let mut body = Vec::new();
                while let Some(data) = poll_fn(|cx| stream.poll_data(cx)).await {
                    let data = data.unwrap();
                    stream.flow_control().release_capacity(data.len()).unwrap();
                    body.extend_from_slice(&data);
                }
                String::from_utf8(body).unwrap()
            }
        };
        futures::future::join_all((0..64).map(|_| one("*/*"))).await
    });
    assert_eq!(bodies.len(), 64);
    assert!(bodies.iter().all(|body| *body == expected));
}

#[test]
fn a_comment_keeps_an_idle_stream_of_events_alive() {
    let (steps, deployment) = counter();
    let app = App::new().with_http(|http| http.stream_keep_alive_s = 0.01);
    let server = serve(app.route("/count", deployment));
    let mut stream = connect(server.addr());
    write(&mut stream, "POST", "/count", "Accept: text/event-stream\r\n", "2");
    assert_eq!(steps.step(Do::Step), [2]);
    let mut response = head(stream);
    assert_eq!(response.chunk(), "data: 0\n\n");
    assert_eq!(response.chunk(), ": still at it\n\n");
    assert_eq!(response.chunk(), ": still at it\n\n");
    steps.free();
    let rest = response.rest();
    assert!(rest.ends_with("data: 1\n\n"), "{rest}");
}

#[test]
fn a_file_can_name_a_stream() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("serve.yaml");
    let mut file = std::fs::File::create(&path).unwrap();
    file.write_all(
        b"applications:\n- {name: words, route_prefix: /words, import_path: 'words:app', \
          deployments: [{name: words, stream_buffer_items: 4, max_batch_size: 8}]}\n",
    )
    .unwrap();
    let registry = Registry::new()
        .register("words:app", |_: Value| Ok(Deployment::generate("words", || Ok(stream_each(words)))));
    let args = ["air-serve", "check", path.to_str().unwrap()].map(Into::into);
    air_serve::cli::main_with(registry, args.into()).unwrap();
}
