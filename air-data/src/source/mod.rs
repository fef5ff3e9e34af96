//! Where rows come from.

mod files;
mod json_lines;
mod materialized;
mod memory;
mod named;
mod paths;
mod range;
mod remote;
mod stores;
mod table;

pub(crate) use files::open;
pub use files::{CsvOptions, FileFormat};
pub(crate) use materialized::{Materialized, Run};
pub(crate) use memory::Memory;
pub use paths::IntoPaths;
pub(crate) use range::Integers;
pub(crate) use stores::Stores;
pub(crate) use table::{Source, SourceExec, SourceTable};
