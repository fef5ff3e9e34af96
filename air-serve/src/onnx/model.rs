//! A graph as it is served: vectors of features in, classes or numbers out.

use std::path::Path;
use std::sync::Arc;

use ndarray::Array2;
use serde::{Deserialize, Serialize};

use super::error::{InputMismatch, OnnxError};
use super::graph::Graph;
use super::ops::Row;
use super::value::{Labels, Value};

/// One request: `{"vector": [1.2, 1.0, 1.1, 0.9]}`. In JSON, `null` is a missing value (NaN).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vector {
    /// The features, in the order the model was trained on.
    #[serde(deserialize_with = "null_is_nan")]
    pub vector: Vec<f64>,
}

fn null_is_nan<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<f64>, D::Error> {
    struct Features;
    impl<'de> serde::de::Visitor<'de> for Features {
        type Value = Vec<f64>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a list of numbers")
        }

        fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut list: A) -> Result<Vec<f64>, A::Error> {
            let mut features = Vec::with_capacity(list.size_hint().unwrap_or(16).min(4096));
            while let Some(feature) = list.next_element::<Option<f64>>()? {
                features.push(feature.unwrap_or(f64::NAN));
            }
            Ok(features)
        }
    }
    deserializer.deserialize_seq(Features)
}

/// One answer: `{"result":"versicolor"}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The predicted class, or the predicted numbers.
    pub result: Prediction,
    /// The score of each class, where the model was asked for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scores: Option<Vec<f32>>,
}

/// What a model predicts for one vector.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Prediction {
    /// A class without a name.
    Class(i64),
    /// A class by name.
    Name(Arc<str>),
    /// One number.
    Number(f32),
    /// Several numbers.
    Numbers(Vec<f32>),
}

/// An ONNX graph that maps vectors of features to classes or numbers. Clones share the graph.
#[derive(Clone, Debug)]
pub struct OnnxModel {
    graph: Arc<Graph>,
    /// Which output is the class, if there is one.
    class: Option<usize>,
    /// Which output holds scores or predicted numbers, if there is one.
    numbers: Option<usize>,
    /// Features in a vector, where the file says.
    width: Option<usize>,
    double: bool,
    names: Option<Arc<[Arc<str>]>>,
    scores: bool,
    /// The class comes straight from a classifier: no tensor is needed to tell it.
    direct: Option<Direct>,
}

#[derive(Clone, Debug)]
struct Direct {
    /// The classifier's step in the graph.
    step: usize,
    /// What is answered for each class.
    answers: Arc<[Prediction]>,
}

impl OnnxModel {
    /// Reads a model that [`OnnxModel::new`] accepts from a file.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, OnnxError> {
        let path = path.as_ref();
        let fitted = super::load(path).map(OnnxModel::new)?;
        fitted.map_err(|source| OnnxError::File { path: path.to_owned(), source: Box::new(source) })
    }

    /// Takes a graph with one input, rows of `float` or `double` features. Its class is its first output of integers or
    /// text; its numbers are its first output of floats or of maps.
    pub fn new(graph: Graph) -> Result<Self, OnnxError> {
        let unfit = |reason: String| OnnxError::Unfit { reason };
        let [input] = graph.inputs() else {
            return Err(unfit(format!(
                "it has {} inputs, a vector of features is one",
                graph.inputs().len()
            )));
        };
        let double = match input.dtype.as_str() {
            "float" => false,
            "double" => true,
            other => {
                return Err(unfit(format!("its input `{}` is {other}, not float or double", input.name)));
            }
        };
        let width = match input.shape[..] {
            [] => None,
            [_, width] => width,
            _ => return Err(unfit(format!("its input `{}` is {input}, not rows of features", input.name))),
        };
        let find = |fits: fn(&str) -> bool| graph.outputs().iter().position(|output| fits(&output.dtype));
        let class = find(|dtype| matches!(dtype, "int64" | "int32" | "string"));
        // A sequence of maps has no element type of its own.
        let numbers = find(|dtype| matches!(dtype, "float" | "double" | ""));
        if class.is_none() && numbers.is_none() {
            return Err(unfit("none of its outputs is a class or a number".to_owned()));
        }
        let graph = Arc::new(graph);
        let model =
            OnnxModel { graph, class, numbers, width, double, names: None, scores: false, direct: None };
        Ok(model.with_direct())
    }

    fn with_direct(mut self) -> Self {
        self.direct = self.direct();
        self
    }

    fn direct(&self) -> Option<Direct> {
        let step = self.graph.classifier(self.class?)?;
        let answers = match self.graph.labels()? {
            Labels::Ints(labels) => labels.iter().map(|&label| self.named(label)).collect(),
            Labels::Texts(labels) => labels.iter().map(|label| self.renamed(label)).collect(),
        };
        Some(Direct { step, answers })
    }

    /// Names the classes, in the order of the model's own labels.
    pub fn with_names<S: AsRef<str>>(
        mut self,
        names: impl IntoIterator<Item = S>,
    ) -> Result<Self, OnnxError> {
        let names: Arc<[Arc<str>]> = names.into_iter().map(|name| Arc::from(name.as_ref())).collect();
        if let Some(labels) = self.graph.labels()
            && labels.len() != names.len()
        {
            let reason = format!("{} names were given for its {} classes", names.len(), labels.len());
            return Err(OnnxError::Unfit { reason });
        }
        self.names = Some(names);
        Ok(self.with_direct())
    }

    /// Puts the score of each class into the answers.
    pub fn with_scores(mut self, scores: bool) -> Self {
        self.scores = scores;
        self
    }

    /// The graph behind it.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Features a vector must have, where the file says.
    pub fn width(&self) -> Option<usize> {
        self.width
    }

    /// Whether the vector fits the model.
    pub fn check(&self, input: &Vector) -> Result<(), InputMismatch> {
        match self.width {
            Some(width) if width != input.vector.len() => Err(InputMismatch {
                expected: format!("a vector of {width} numbers"),
                got: input.vector.len().to_string(),
            }),
            _ => Ok(()),
        }
    }

    /// One answer for each vector; all must have one length.
    pub fn predict(&self, batch: &[Vector]) -> Result<Vec<Answer>, OnnxError> {
        let Some(first) = batch.first() else { return Ok(Vec::new()) };
        let columns = first.vector.len();
        for input in batch {
            self.check(input)?;
            if input.vector.len() != columns {
                let expected = format!("a vector of {columns} numbers, as the batch began with");
                return Err(InputMismatch { expected, got: input.vector.len().to_string() }.into());
            }
        }
        if let Some(direct) = self.direct.as_ref().filter(|_| !self.scores) {
            let answers = batch.iter().map(|input| self.answer(direct, input));
            if let Some(answers) = answers.collect::<Option<_>>() {
                return answers;
            }
        }
        let flat = batch.iter().flat_map(|input| input.vector.iter().copied());
        let shape = (batch.len(), columns);
        let input = if self.double {
            Array2::from_shape_vec(shape, flat.collect()).map(|array| Value::F64(array.into_dyn()))
        } else {
            Array2::from_shape_vec(shape, flat.map(|x| x as f32).collect())
                .map(|array| Value::F32(array.into_dyn()))
        };
        let input = input.map_err(|error| OnnxError::Graph { reason: error.to_string() })?;
        let outputs = self.graph.run(vec![input])?;
        let numbers = self.numbers.filter(|_| self.class.is_none() || self.scores);
        let numbers = numbers.map(|output| rows(&outputs[output], batch.len())).transpose()?;
        let answer = |row: usize| {
            let of_row = numbers.as_ref().map(|(numbers, width)| &numbers[row * width..(row + 1) * width]);
            let result = match self.class {
                Some(output) => self.class_of(&outputs[output], row, batch.len())?,
                None => self.number_of(of_row.unwrap_or_default()),
            };
            Ok(Answer { result, scores: of_row.filter(|_| self.scores).map(<[f32]>::to_vec) })
        };
        (0..batch.len()).map(answer).collect()
    }

    /// The class of one vector, where its classifier can tell without tensors.
    fn answer(&self, direct: &Direct, input: &Vector) -> Option<Result<Answer, OnnxError>> {
        let class = if self.double {
            self.graph.classify(direct.step, Row::F64(&input.vector))?
        } else {
            let row: Vec<f32> = input.vector.iter().map(|&x| x as f32).collect();
            self.graph.classify(direct.step, Row::F32(&row))?
        };
        Some(class.map(|class| Answer { result: direct.answers[class].clone(), scores: None }))
    }

    fn class_of(&self, output: &Value, row: usize, rows: usize) -> Result<Prediction, OnnxError> {
        let miscounted =
            || OnnxError::Graph { reason: format!("it made {:?} classes for {rows} rows", output.shape()) };
        match output {
            Value::I64(classes) if classes.len() == rows => {
                let class = *classes.iter().nth(row).ok_or_else(miscounted)?;
                Ok(self.named(class))
            }
            Value::Text(classes) if classes.len() == rows => {
                let class = classes.iter().nth(row).ok_or_else(miscounted)?;
                Ok(self.renamed(class))
            }
            _ => Err(miscounted()),
        }
    }

    fn named(&self, class: i64) -> Prediction {
        self.name_of(class).map_or(Prediction::Class(class), Prediction::Name)
    }

    fn renamed(&self, class: &Arc<str>) -> Prediction {
        Prediction::Name(self.rename(class).unwrap_or_else(|| class.clone()))
    }

    fn name_of(&self, class: i64) -> Option<Arc<str>> {
        let names = self.names.as_ref()?;
        let index = match self.graph.labels() {
            Some(Labels::Ints(labels)) => labels.iter().position(|&label| label == class)?,
            _ => usize::try_from(class).ok()?,
        };
        names.get(index).cloned()
    }

    fn rename(&self, class: &Arc<str>) -> Option<Arc<str>> {
        let names = self.names.as_ref()?;
        let Some(Labels::Texts(labels)) = self.graph.labels() else { return None };
        names.get(labels.iter().position(|label| label == class)?).cloned()
    }

    /// A network without a class output still names its highest score, if it was given names.
    fn number_of(&self, numbers: &[f32]) -> Prediction {
        if let Some(names) = &self.names
            && names.len() == numbers.len()
            && let Some((best, _)) = numbers.iter().enumerate().reduce(|a, b| if b.1 > a.1 { b } else { a })
        {
            return Prediction::Name(names[best].clone());
        }
        match *numbers {
            [number] => Prediction::Number(number),
            _ => Prediction::Numbers(numbers.to_vec()),
        }
    }
}

/// The numbers of an output, flat, and how many a row has.
fn rows(output: &Value, rows: usize) -> Result<(Vec<f32>, usize), OnnxError> {
    let graph = |reason: String| OnnxError::Graph { reason };
    let flat: Vec<f32> = match output {
        Value::Maps { scores, .. } => scores.iter().copied().collect(),
        other => other.to_f32().map_err(graph)?.iter().copied().collect(),
    };
    if rows == 0 || !flat.len().is_multiple_of(rows) {
        return Err(graph(format!("it made {} numbers for {rows} rows", flat.len())));
    }
    let width = flat.len() / rows;
    Ok((flat, width))
}
