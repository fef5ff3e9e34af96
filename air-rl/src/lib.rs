//! air-rl
