//! air-serve
