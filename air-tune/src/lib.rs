//! air-tune
