//! Channels bounded in items and in bytes.
mod weigh;
pub use weigh::Weigh;
