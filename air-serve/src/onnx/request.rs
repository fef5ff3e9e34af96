//! What a served model is asked, and what it answers: a vector, or one value for each input of the graph.

use std::sync::Arc;

use air_core::BoxError;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::error::OnnxError;
use super::graph::Graph;
use super::model::{Answer, OnnxModel, Vector};
use super::tensors::{rows, run_all};
use super::value::Value;
use crate::model::Model;

/// One request to an [`OnnxModel`]. In JSON it is a [`Vector`].
#[derive(Clone, Debug, PartialEq)]
pub enum OnnxRequest {
    /// Features; answered by [`OnnxAnswer::Answer`].
    Vector(Vector),
    /// A value for each input of the graph, of any number of rows; answered by [`OnnxAnswer::Values`].
    Values(Vec<Value>),
}

/// One answer of an [`OnnxModel`]. In JSON it is an [`Answer`].
#[derive(Clone, Debug, PartialEq)]
pub enum OnnxAnswer {
    /// To a vector.
    Answer(Answer),
    /// A value for each output of the graph.
    Values(Vec<Value>),
}

impl<'de> Deserialize<'de> for OnnxRequest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vector::deserialize(deserializer).map(OnnxRequest::Vector)
    }
}

impl Serialize for OnnxAnswer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            OnnxAnswer::Answer(answer) => answer.serialize(serializer),
            OnnxAnswer::Values(_) => {
                Err(serde::ser::Error::custom("values of a graph are not written as JSON"))
            }
        }
    }
}

impl From<Vector> for OnnxRequest {
    fn from(vector: Vector) -> Self {
        OnnxRequest::Vector(vector)
    }
}

impl OnnxRequest {
    /// How many rows it has.
    pub(crate) fn rows(&self) -> usize {
        match self {
            OnnxRequest::Vector(_) => 1,
            OnnxRequest::Values(values) => rows(values),
        }
    }
}

impl OnnxAnswer {
    /// The answer to a vector.
    pub fn prediction(self) -> Option<Answer> {
        match self {
            OnnxAnswer::Answer(answer) => Some(answer),
            OnnxAnswer::Values(_) => None,
        }
    }
}

impl Model for OnnxModel {
    type In = OnnxRequest;
    type Out = OnnxAnswer;

    fn predict(&mut self, batch: Vec<OnnxRequest>) -> Result<Vec<OnnxAnswer>, BoxError> {
        if let [OnnxRequest::Vector(vector)] = &batch[..] {
            let answers = OnnxModel::predict(self, std::slice::from_ref(vector))?;
            return Ok(answers.into_iter().map(OnnxAnswer::Answer).collect());
        }
        // Which answers are values, to put the two kinds back in order.
        let are_values: Vec<bool> =
            batch.iter().map(|request| matches!(request, OnnxRequest::Values(_))).collect();
        let (mut vectors, mut values) = (Vec::with_capacity(batch.len()), Vec::new());
        for request in batch {
            match request {
                OnnxRequest::Vector(vector) => vectors.push(vector),
                OnnxRequest::Values(of_one) => values.push(of_one),
            }
        }
        let mut answers = OnnxModel::predict(self, &vectors)?.into_iter();
        let mut outputs = run_all(self.graph(), values)?.into_iter();
        let mut next = |is_values| -> Result<OnnxAnswer, OnnxError> {
            let next = if is_values {
                outputs.next().map(OnnxAnswer::Values)
            } else {
                answers.next().map(OnnxAnswer::Answer)
            };
            next.ok_or_else(|| OnnxError::Graph { reason: "it made too few answers".to_owned() })
        };
        Ok(are_values.into_iter().map(&mut next).collect::<Result<_, _>>()?)
    }
}

/// A graph as it is, with a value for each input and each output.
#[derive(Clone, Debug)]
pub struct GraphModel(pub(crate) Arc<Graph>);

impl Model for GraphModel {
    type In = Vec<Value>;
    type Out = Vec<Value>;

    fn predict(&mut self, batch: Vec<Vec<Value>>) -> Result<Vec<Vec<Value>>, BoxError> {
        Ok(run_all(&self.0, batch)?)
    }
}
