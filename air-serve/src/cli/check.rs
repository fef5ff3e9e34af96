//! `air-serve check`: what would be served, without serving it.

use std::path::Path;

use air_core::cli::CliError;
use air_core::outln;

use super::load;
use crate::config::Registry;
use crate::onnx::OnnxModel;

/// A configuration: everything it names is built, nothing listens.
pub(super) fn config(path: &Path, registry: &Registry) -> Result<(), CliError> {
    let plan = load(path, &[], registry)?;
    outln!("address  {}://{}", plan.http.scheme(), plan.http.addr())?;
    for app in &plan.applications {
        outln!("route    {}: {}", app.place.route, app.place)?;
    }
    for note in &plan.notes {
        outln!("note     {note}")?;
    }
    Ok(plan.into_app().validate()?)
}

/// A model.
pub(super) fn model(path: &Path) -> Result<(), CliError> {
    let model = OnnxModel::load(path)?;
    let graph = model.graph();
    outln!("made by  {}", graph.producer())?;
    for input in graph.inputs() {
        outln!("input    {}: {input}", input.name)?;
    }
    for output in graph.outputs() {
        outln!("output   {}: {output}", output.name)?;
    }
    if let Some(labels) = graph.class_labels() {
        outln!("classes  {}", labels.join(", "))?;
    }
    Ok(())
}
