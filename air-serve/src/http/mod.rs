//! The HTTP front: listeners, limits, routes. It knows deployments only through `route::Endpoint`, and deployments know nothing of it.
//!
//! | file | idea |
//! |---|---|
//! | `config` | where and within what limits |
//! | `listen` | one socket a thread, one port |
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

pub use config::HttpConfig;
pub(crate) use front::{Front, foreign_type};
pub(crate) use listen::bind;
pub(crate) use own::{Own, router};
pub(crate) use reply::Body;
pub(crate) use route::{Json, Route, RouteTable, valid_path};
pub(crate) use threads::{Phase, Threads};
