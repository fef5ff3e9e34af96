//! Where rows come from.

mod contract;
mod files;
mod foreign;
mod hive;
mod json_lines;
mod layout;
mod list;
mod materialized;
mod memory;
mod named;
mod options;
mod paths;
mod range;
mod remote;
mod share;
mod stores;
mod table;

pub use contract::{ReadRequest, Source, SourceBatches, SourcePart};
pub(crate) use files::{Files, open};
pub(crate) use foreign::Foreign;
pub(crate) use hive::NULL;
pub(crate) use layout::{Layout, Piece};
pub(crate) use list::FileList;
pub(crate) use materialized::{Materialized, Run};
pub(crate) use memory::Memory;
pub(crate) use options::Skipped;
pub use options::{FileErrors, ReadOptions, SkippedFile};
pub use paths::IntoPaths;
pub(crate) use range::Integers;
pub(crate) use share::Share;
pub(crate) use stores::Stores;
pub(crate) use table::{SourceExec, SourceTable};
