//! The HTTP front: listeners, limits, routes. It knows deployments only through `route::Endpoint`, and deployments know nothing of it.
//!
//! | file | idea |
//! |---|---|
//! | `config` | where and within what limits |
//! | `listen` | one socket a thread, one port |
//! | `version` | HTTP/1.1 or HTTP/2 |
//! | `threads` | accepting, connections, draining |
//! | `front` | one request |
//! | `counted` | streams that are counted when they end |
//! | `policy` | what is asked of a request first, and done to its answer last: the next three, and keys |
//! | `cors` | which pages in a browser may call |
//! | `compress` | gzip |
//! | `patience` | clients that do not read |
//! | `waits` | one timer a connection |
//! | `own` | the server's own pages: health, routes, metrics |
//! | `route` | from path to deployment, JSON on both sides |
//! | `respond` | what a route can answer with |
//! | `mirrored` | routes whose requests are copied for another deployment |
//! | `stream` | answers that come one item at a time |
//! | `format` | how their items are written |
//! | `socket` | WebSockets |
//! | `terms` | what headers ask for: time, priority, which model |
//! | `reply` | responses and errors |
//! | `tls` | certificates, read again when they change |
//! | `traces` | a span for each request, to OpenTelemetry |
//! | `request_id` | `x-request-id` |

mod compress;
mod config;
mod cors;
mod counted;
mod format;
mod front;
mod listen;
mod mirrored;
mod own;
mod patience;
mod policy;
pub(crate) mod reply;
mod request_id;
mod respond;
mod route;
mod socket;
mod stream;
mod terms;
mod threads;
#[cfg(feature = "tls")]
mod tls;
#[cfg(not(feature = "tls"))]
#[path = "no_tls.rs"]
mod tls;
mod traces;
mod version;
mod waits;

pub use compress::CompressionConfig;
pub use config::HttpConfig;
pub use cors::CorsConfig;
pub(crate) use front::{AnyBody, Front, Refusal, foreign_type};
pub(crate) use listen::bind;
pub(crate) use mirrored::Mirrored;
pub(crate) use own::{Own, router};
pub(crate) use policy::Policy;
pub(crate) use reply::Body;
pub(crate) use respond::Answer;
pub use respond::Respond;
pub(crate) use route::{Route, RouteTable, valid_path};
pub(crate) use terms::{model_id, terms};
pub(crate) use threads::{Phase, Threads};
pub(crate) use tls::Tls;
pub use traces::TracesConfig;
pub(crate) use traces::{Trace, Traced};
