//! The HTTP front: listeners, limits, routes. It knows deployments only through `route::Endpoint`, and deployments know nothing of it.
//!
//! | file | idea |
//! |---|---|
//! | `config` | where and within what limits |
//! | `listen` | one socket a thread, one port |
//! | `version` | HTTP/1.1 or HTTP/2 |
//! | `threads` | accepting, connections, draining |
//! | `front` | one request |
//! | `own` | the server's own pages: health, routes, metrics |
//! | `route` | from path to deployment, JSON on both sides |
//! | `reply` | responses and errors |
//! | `request_id` | `x-request-id` |

mod config;
mod front;
mod listen;
mod own;
pub(crate) mod reply;
mod request_id;
mod route;
mod threads;
mod version;

pub use config::HttpConfig;
pub(crate) use front::{Front, Refusal, foreign_type};
pub(crate) use listen::bind;
pub(crate) use own::{Own, router};
pub(crate) use reply::Body;
pub(crate) use route::{Json, Route, RouteTable, valid_path};
pub(crate) use threads::{Phase, Threads};
