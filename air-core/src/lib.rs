//! air-core
