//! The floor of the comparison: axum with nothing around it, a thread and a listener a core, doing the same work as ours.
//!
//!     cargo run --release -p air-serve --example bench_floor -- --port 8100

use std::net::SocketAddr;
use std::path::Path;
use std::thread;

use air_core::BoxError;
use air_serve::onnx::{Answer, OnnxModel, Vector};
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use clap::Parser;
use serde_json::Value;
use socket2::{Domain, Socket, Type};

#[derive(Parser)]
struct Options {
    #[arg(long, default_value_t = 8100)]
    port: u16,
    #[arg(long, default_value_t = 2)]
    threads: usize,
}

async fn hello() -> Json<&'static str> {
    Json("Hello world!")
}

async fn echo(Json(value): Json<Value>) -> Json<Value> {
    Json(value)
}

async fn bytes(Json(text): Json<String>) -> Json<usize> {
    Json(text.len())
}

async fn iris(
    State(model): State<OnnxModel>,
    Json(vector): Json<Vector>,
) -> Result<Json<Answer>, (StatusCode, String)> {
    let answers = model.predict(&[vector]);
    let mut answers = answers.map_err(|error| (StatusCode::UNPROCESSABLE_ENTITY, error.to_string()))?;
    answers.pop().map(Json).ok_or((StatusCode::INTERNAL_SERVER_ERROR, "no answer".to_owned()))
}

fn listener(addr: SocketAddr) -> std::io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.bind(&addr.into())?;
    socket.listen(1024)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn main() -> Result<(), BoxError> {
    let options = Options::parse();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/data/iris_gbc.onnx");
    let model = OnnxModel::load(file)?.with_names(["setosa", "versicolor", "virginica"])?;
    let router = Router::new()
        .route("/hello", get(hello))
        .route("/echo", post(echo))
        .route("/bytes", post(bytes).layer(DefaultBodyLimit::disable()))
        .route("/iris", post(iris))
        .with_state(model);
    let addr = SocketAddr::from(([127, 0, 0, 1], options.port));
    let threads = (0..options.threads).map(|_| {
        let (router, listener) = (router.clone(), listener(addr)?);
        Ok(thread::spawn(move || -> std::io::Result<()> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener)?;
                axum::serve(
                    axum::serve::ListenerExt::tap_io(listener, |stream| {
                        // Ours sets it too; without it answers larger than a packet may wait.
                        let _ = stream.set_nodelay(true);
                    }),
                    router,
                )
                .await
            })
        }))
    });
    let threads: Vec<_> = threads.collect::<std::io::Result<_>>()?;
    println!("serving http://{addr}");
    for thread in threads {
        thread.join().map_err(|_| "a thread panicked")??;
    }
    Ok(())
}
