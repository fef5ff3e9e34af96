//! A model's directory, as transformers' `save_pretrained` writes it.
//!
//! | file | idea |
//! |---|---|
//! | `file` | its files, within limits |
//! | `shape` | `config.json` |
//! | `tensors` | weights by name |

pub(crate) mod file;
mod shape;
mod tensors;

pub(crate) use shape::{NetShape, read as read_shape, token_ids};
pub(crate) use tensors::Tensors;
