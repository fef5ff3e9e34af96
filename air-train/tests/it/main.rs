//! Integration tests, one file per area.
#![allow(clippy::unwrap_used)]

mod networks;
