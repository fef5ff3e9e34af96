//! air-data
