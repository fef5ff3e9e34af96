//! The graph: nodes in order, each reading and writing numbered slots.

use std::collections::HashMap;

use super::error::{InputMismatch, OnnxError, Reason};
use super::node::Node;
use super::ops::{self, Built, Operator, Row};
use super::proto::{self, data_type};
use super::value::Value;

/// An input or output of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its name in the graph.
    pub name: String,
    /// ONNX element type (`float`, `int64`, …); empty where the file does not say (sequences of maps).
    pub dtype: String,
    /// Dimensions; `None` is unknown, such as the number of rows.
    pub shape: Vec<Option<usize>>,
}

/// Where a step finds an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Absent,
    Constant(usize),
    Slot(usize),
}

struct Step {
    operator: Box<dyn Operator>,
    node: String,
    name: String,
    inputs: Vec<Source>,
    outputs: Vec<Option<usize>>,
}

impl Step {
    fn error(&self, reason: Reason) -> OnnxError {
        OnnxError::Node { node: self.node.clone(), operator: self.name.clone(), reason }
    }
}

/// A model ready to be evaluated. It does not change, so one copy serves any number of threads.
pub struct Graph {
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    results: Vec<Source>,
    constants: Vec<Value>,
    steps: Vec<Step>,
    slots: usize,
    producer: String,
}

impl Graph {
    /// Checks and compiles a decoded model.
    pub(crate) fn build(model: &proto::Model) -> Result<Graph, OnnxError> {
        let graph = model.graph.as_ref().ok_or_else(|| invalid("the file holds no graph"))?;
        let mut names: HashMap<&str, Source> = HashMap::new();
        let mut constants = Vec::new();
        for tensor in &graph.initializer {
            let name = tensor.name.as_deref().unwrap_or("");
            let value = Value::from_proto(tensor)
                .map_err(|reason| invalid(&format!("the constant `{name}`: {reason}")))?;
            names.insert(name, Source::Constant(constants.len()));
            constants.push(value);
        }
        let mut inputs = Vec::new();
        for input in &graph.input {
            let port = Port::from_proto(input);
            // Old files list constants among the inputs too.
            if let Some(name) = input.name.as_deref()
                && !names.contains_key(name)
            {
                names.insert(name, Source::Slot(inputs.len()));
                inputs.push(port);
            }
        }
        let mut slots = inputs.len();
        let mut steps = Vec::new();
        for proto in &graph.node {
            let node = Node::new(proto, opset(model, proto.domain.as_deref().unwrap_or("")));
            let mut sources = Vec::with_capacity(proto.input.len());
            for name in &proto.input {
                sources.push(match names.get(name.as_str()) {
                    Some(&source) => source,
                    None if name.is_empty() => Source::Absent,
                    None => {
                        return Err(
                            node.error(format!("its input `{name}` is not made by any node before it"))
                        );
                    }
                });
            }
            match ops::build(&node)? {
                Built::Alias => {
                    let source =
                        sources.first().copied().ok_or_else(|| node.error("it has no input".to_owned()))?;
                    if let Some(output) = proto.output.first() {
                        names.insert(output, source);
                    }
                }
                Built::Constant(value) => {
                    if let Some(output) = proto.output.first() {
                        names.insert(output, Source::Constant(constants.len()));
                        constants.push(value);
                    }
                }
                Built::Step(operator) => {
                    let mut outputs = Vec::with_capacity(proto.output.len());
                    for output in &proto.output {
                        outputs.push((!output.is_empty()).then(|| {
                            names.insert(output, Source::Slot(slots));
                            slots += 1;
                            slots - 1
                        }));
                    }
                    steps.push(Step {
                        operator,
                        node: node.name(),
                        name: node.full_operator(),
                        inputs: sources,
                        outputs,
                    });
                }
            }
        }
        let mut results = Vec::new();
        let mut outputs = Vec::new();
        for output in &graph.output {
            let port = Port::from_proto(output);
            let source = names.get(port.name.as_str()).copied();
            results
                .push(source.ok_or_else(|| invalid(&format!("no node makes the output `{}`", port.name)))?);
            outputs.push(port);
        }
        if outputs.is_empty() {
            return Err(invalid("it has no output"));
        }
        Ok(Graph { inputs, outputs, results, constants, steps, slots, producer: producer(model) })
    }

    /// A graph that one operator evaluates as a whole.
    pub(super) fn of_net(model: &proto::Model, operator: Box<dyn Operator>) -> Result<Graph, OnnxError> {
        let graph = model.graph.as_ref().ok_or_else(|| invalid("the file holds no graph"))?;
        let is_constant = |name: &Option<String>| graph.initializer.iter().any(|tensor| tensor.name == *name);
        let inputs: Vec<_> =
            graph.input.iter().filter(|input| !is_constant(&input.name)).map(Port::from_proto).collect();
        let outputs: Vec<_> = graph.output.iter().map(Port::from_proto).collect();
        let slot = |output: usize| inputs.len() + output;
        let step = Step {
            operator,
            node: "all of it".to_owned(),
            name: "network".to_owned(),
            inputs: (0..inputs.len()).map(Source::Slot).collect(),
            outputs: (0..outputs.len()).map(slot).map(Some).collect(),
        };
        Ok(Graph {
            results: (0..outputs.len()).map(slot).map(Source::Slot).collect(),
            constants: Vec::new(),
            steps: vec![step],
            slots: slot(outputs.len()),
            producer: producer(model),
            inputs,
            outputs,
        })
    }

    /// What the model takes.
    pub fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    /// What the model gives.
    pub fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    /// The exporter that wrote the file, as in `skl2onnx 1.20.0`.
    pub fn producer(&self) -> &str {
        &self.producer
    }

    /// The classes of the first classifier among the nodes, as text.
    pub fn class_labels(&self) -> Option<Vec<String>> {
        Some(match self.labels()? {
            super::Labels::Ints(labels) => labels.iter().map(ToString::to_string).collect(),
            super::Labels::Texts(labels) => labels.iter().map(ToString::to_string).collect(),
        })
    }

    /// The class labels of the first classifier among the nodes.
    pub(crate) fn labels(&self) -> Option<&super::Labels> {
        self.steps.iter().find_map(|step| step.operator.labels())
    }

    /// The step that gives this output, if it is the classifier of [`labels`](Self::labels) and reads nothing but the graph's first input.
    pub(crate) fn classifier(&self, output: usize) -> Option<usize> {
        let (number, step) =
            self.steps.iter().enumerate().find(|(_, step)| step.operator.labels().is_some())?;
        let slot = (*step.outputs.first()?)?;
        (step.inputs == [Source::Slot(0)] && self.results[output] == Source::Slot(slot)).then_some(number)
    }

    /// The class that a step gives one row of features, by its number among the labels, where it can tell without tensors.
    pub(crate) fn classify(&self, step: usize, row: Row<'_>) -> Option<Result<usize, OnnxError>> {
        let step = self.steps.get(step)?;
        Some(step.operator.class(row)?.map_err(|reason| step.error(reason)))
    }

    /// Evaluates the graph on one value for each input and returns one for each output.
    pub fn run(&self, inputs: Vec<Value>) -> Result<Vec<Value>, OnnxError> {
        if inputs.len() != self.inputs.len() {
            let expected = format!("{} inputs", self.inputs.len());
            return Err(InputMismatch { expected, got: inputs.len().to_string() }.into());
        }
        for (value, port) in inputs.iter().zip(&self.inputs) {
            port.check(value)?;
        }
        let mut slots: Vec<Option<Value>> = Vec::with_capacity(self.slots);
        slots.extend(inputs.into_iter().map(Some));
        slots.resize(self.slots, None);
        for step in &self.steps {
            let arguments: Vec<Option<&Value>> =
                step.inputs.iter().map(|&source| self.find(&slots, source)).collect();
            let results = step.operator.run(&arguments).map_err(|reason| step.error(reason))?;
            for (slot, value) in step.outputs.iter().zip(results) {
                if let Some(slot) = *slot {
                    slots[slot] = Some(value);
                }
            }
        }
        let made = self.results.iter().zip(&self.outputs).map(|(&source, port)| {
            let value = self.find(&slots, source).cloned();
            value.ok_or_else(|| invalid(&format!("the output `{}` was not made", port.name)))
        });
        made.collect()
    }

    fn find<'a>(&'a self, slots: &'a [Option<Value>], source: Source) -> Option<&'a Value> {
        match source {
            Source::Absent => None,
            Source::Constant(index) => self.constants.get(index),
            Source::Slot(slot) => slots.get(slot)?.as_ref(),
        }
    }
}

impl std::fmt::Debug for Graph {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let steps: Vec<_> = self.steps.iter().map(|step| &step.name).collect();
        f.debug_struct("Graph").field("inputs", &self.inputs).field("steps", &steps).finish_non_exhaustive()
    }
}

impl Port {
    fn from_proto(info: &proto::ValueInfo) -> Port {
        let tensor = info.r#type.as_ref().and_then(|kind| kind.tensor_type.as_ref());
        let dims = tensor.and_then(|tensor| tensor.shape.as_ref()).map(|shape| shape.dim.as_slice());
        Port {
            name: info.name.clone().unwrap_or_default(),
            dtype: tensor.and_then(|tensor| tensor.elem_type).map(data_type::name).unwrap_or_default(),
            shape: dims
                .unwrap_or_default()
                .iter()
                .map(|dim| {
                    dim.dim_value.and_then(|value| usize::try_from(value).ok()).filter(|&value| value > 0)
                })
                .collect(),
        }
    }

    fn check(&self, value: &Value) -> Result<(), InputMismatch> {
        let shape = value.shape();
        let fits = self.shape.is_empty()
            || (shape.len() == self.shape.len()
                && shape.iter().zip(&self.shape).all(|(&got, want)| want.is_none_or(|want| want == got)));
        let same = match self.dtype.as_str() {
            "int32" => value.type_name() == "int64",
            dtype => dtype.is_empty() || dtype == value.type_name(),
        };
        if fits && same {
            return Ok(());
        }
        let got = format!("{} {shape:?} for the input `{}`", value.type_name(), self.name);
        Err(InputMismatch { expected: self.to_string(), got })
    }
}

impl std::fmt::Display for Port {
    /// As in `float [?, 4]`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let dims: Vec<_> =
            self.shape.iter().map(|dim| dim.map_or("?".to_owned(), |dim| dim.to_string())).collect();
        write!(f, "{} [{}]", self.dtype, dims.join(", "))
    }
}

fn producer(model: &proto::Model) -> String {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    format!("{} {}", text(&model.producer_name), text(&model.producer_version)).trim().to_owned()
}

fn opset(model: &proto::Model, domain: &str) -> i64 {
    let same = |other: &str| other == domain || (domain.is_empty() && other == "ai.onnx");
    let found = model.opset_import.iter().find(|set| same(set.domain.as_deref().unwrap_or("")));
    found.and_then(|set| set.version).unwrap_or(1)
}

fn invalid(reason: &str) -> OnnxError {
    OnnxError::Graph { reason: reason.to_owned() }
}
