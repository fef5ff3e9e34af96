//! Model serving: no proxy, no wait, no dropped request.
//!
//! A model becomes a [`Deployment`]; deployments and their routes become an [`App`]; [`run`] makes a [`Server`] of it.
//!
//! ```
//! use air_serve::onnx::{OnnxAnswer, OnnxModel, OnnxRequest, Prediction, Vector};
//! use air_serve::{App, Deployment, run};
//!
//! let iris = OnnxModel::load("../examples/data/iris_gbc.onnx")?.with_names(["setosa", "versicolor", "virginica"])?;
//! let app = App::new().with_http(|http| http.port = 0).route("/iris", Deployment::onnx("iris", iris));
//! let server = run(app)?;
//! println!("curl -d '{{\"vector\": [1.2, 1.0, 1.1, 0.9]}}' http://{}/iris", server.addr());
//!
//! // The same deployment without a socket.
//! let handle = server.handle::<OnnxRequest, OnnxAnswer>("iris")?;
//! let answer = handle.call_blocking(Vector { vector: vec![1.2, 1.0, 1.1, 0.9] }.into())?.prediction();
//! assert_eq!(answer.map(|answer| answer.result), Some(Prediction::Name("versicolor".into())));
//! # Ok::<(), air_core::BoxError>(())
//! ```
//!
//! Any Rust type with a `predict` is a [`Model`]; [`each`] makes one of a function. One that answers with a stream is a [`Generate`]; [`stream_each`]
//! makes one of a function that gives an iterator.
//!
//! # The path of a request
//!
//! ```text
//! HTTP thread ── route table ── cheap model? ── yes ── called in place, answered
//! (own listener,  (ArcSwap)          │
//!  own runtime)                      no ── bounded queue ── replica threads pull batches ── answered
//! ```
//!
//! A model whose answers are streams works on after it has answered: its replica's thread takes in what waits, then takes all that runs one step
//! further, again and again. Between a sequence and its reader lies a bounded buffer.
//!
//! No worker's mailbox is on that path. Beside it, one light worker looks after each deployment: it sees what is there, decides, and starts
//! and ends replicas.
//!
//! | module | what |
//! |---|---|
//! | `app`, `server` | what is served; a server that runs |
//! | `deployments` | what runs and the routes to it, and how a deploy changes both |
//! | `http` | listeners, limits, routes, the server's own pages |
//! | `deploy` | handles, queues, batching, replicas; scaling, updates, status |
//! | `stream` | answers that come one item at a time, and models that work on many in each step |
//! | `async_model` | models that only wait |
//! | `multiplex` | many models behind one deployment |
//! | [`ensemble`] | graphs of deployments, as a file says them |
//! | [`onnx`] | model files |
//! | [`v2`] | the Open Inference Protocol |
//! | `llm` | language models and embeddings of texts, over OpenAI's API (feature `llm`) |
//! | `scan` | protocol buffers, before they are decoded |
//! | `admin` | what is served, changed over HTTP |
//! | `auth` | API keys: scopes and rates |
//! | `metrics` | what is counted |
//! | `openapi` | what is served, for tools |
//! | [`load`] | an open-loop load generator |
//! | `config` | what is served, as a file |
//! | `cli` | the `air-serve` command |
//!
//! # Invariants
//!
//! 1. There is one bounded queue for each version of a deployment, of which there are two only during an update, and nothing else in which
//!    requests can pile up.
//! 2. A request is answered exactly once, or refused exactly once. One that was cancelled or ran out of time in the queue never reaches a
//!    model.
//! 3. A model is called by one thread at a time, with at least one request and at most `max_batch_size`, those counted that it still works on;
//!    an async one with one, many times side by side.
//! 4. A replica that panics, hangs or answers a batch with the wrong number of answers fails the requests of that batch, which are told its name
//!    and why, and is replaced; nobody else notices. Where requests may run twice they are tried again instead.
//!    A request of an async model fails alone; one that blocks its thread costs all of them their replica, one that waits for ever ends with its
//!    deadline.
//! 5. Decisions (when to dispatch, when to send callers away and for how long, where to run, how many replicas there should be, which
//!    version gets what) are pure types.
//! 6. Nothing a client sends makes the server allocate more than the body limit for it, panic, or wait for ever.
//! 7. A stream's items come in order and none is lost; its end is explicit, and comes whatever becomes of its replica. A sequence whose reader
//!    is gone is not stepped again; one whose reader is slow holds up no other, and no more than its buffer.
//! 8. A call that is made on behalf of a request never outlives it.
//! 9. No update, rollback or change of size fails a request: what is new gets requests when it is ready, and what is old ends after that. One of
//!    protocol V2 is answered by a version that it was checked against.
//! 10. The end of a server takes no longer than it may, whatever hangs.

mod admin;
mod app;
mod async_model;
mod auth;
pub mod cli;
mod config;
mod deploy;
mod deployments;
pub mod ensemble;
mod error;
mod http;
#[cfg(feature = "llm")]
pub mod llm;
#[cfg(not(feature = "llm"))]
#[path = "no_llm.rs"]
mod llm;
pub mod load;
mod metrics;
mod model;
mod multiplex;
pub mod onnx;
mod openapi;
mod scan;
mod server;
mod stream;
pub mod v2;

pub use app::App;
pub use async_model::{Async, AsyncModel, EachAsync, each_async};
pub use auth::{AuthConfig, KeyConfig, KeyHash, Scope};
pub use config::{
    ApplicationConfig, DeploymentOverride, Encoding, HttpOptions, LoggingConfig, MirrorConfig, Registry,
    ServeConfig,
};
pub use deploy::{
    ApplicationState, ApplicationStatus, AutoscalingConfig, Call, Deployment, DeploymentConfig,
    DeploymentHandle, DeploymentState, DeploymentStatus, Execution, Handles, ReplicaState, ReplicaStatus,
    RequestContext, ServeStatus, UpdateStatus, replica_devices,
};
pub use error::{CallError, ServeError};
pub use http::{CompressionConfig, CorsConfig, HttpConfig, Respond, TracesConfig};
pub use model::{Each, Model, each};
pub use multiplex::Multiplexed;
pub use server::{Server, run, run_with};
pub use stream::{Generate, Generator, Items, Raw, Running, StreamEach, stream_each};
