//! The crate from outside: through its public API, and through its binary.

#![allow(clippy::unwrap_used)]
