//! air-train
