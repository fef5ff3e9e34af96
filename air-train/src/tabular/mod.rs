//! A classifier of the rows of a table, from a CSV file to a checkpoint that answers: what `air-train run` does.
//!
//! All columns but the label are numbers; they are standardised with the training rows' means and deviations, which are kept
//! with the weights, so that [`Classifier::predict`] takes rows as they stand in the file.

mod classifier;
mod config;
mod table;

pub use classifier::{Classifier, Fitted, fit};
pub use config::{DataConfig, ModelConfig, OptimizerConfig, TabularConfig};
pub use table::Table;
