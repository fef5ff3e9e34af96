//! What is to be served, as a file: Ray Serve's schema, in YAML or TOML.
//!
//! | file | idea |
//! |---|---|
//! | `schema` | the file |
//! | `sieve` | a struct, and beside it keys of Ray's that it does not have |
//! | `registry` | the applications that a program has by name |
//! | `plan` | from a file to an [`App`](crate::App) |
//! | `template` | a file for models: pure |

mod plan;
mod registry;
mod schema;
mod sieve;
mod template;

pub(crate) use plan::{Place, Plan};
pub(crate) use registry::LLM;
#[cfg(not(feature = "llm"))]
pub(crate) use registry::NO_LLM;
pub use registry::Registry;
pub(crate) use schema::without_nulls;
pub use schema::{
    ApplicationConfig, DeploymentOverride, Encoding, HttpOptions, LoggingConfig, MirrorConfig, ServeConfig,
};
pub(crate) use template::template;
