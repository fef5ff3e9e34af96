//! An ONNX graph being written, node by node.

use prost::Message as _;

use super::proto::{
    Attribute, Dimension, Extent, Graph, Model, Node, OperatorSet, Shape, Tensor, TensorType, Type, ValueInfo,
};

const FLOAT: i32 = 1;
const INT64: i32 = 7;
const BOOL: i32 = 9;
/// `onnx.AttributeProto.AttributeType`.
const AN_INT: i32 = 2;
const INTS: i32 = 7;

/// A value in the graph, by name.
pub(super) type Name = String;

#[derive(Default)]
pub(super) struct Builder {
    graph: Graph,
    named: usize,
}

impl Builder {
    fn fresh(&mut self, what: &str) -> Name {
        self.named += 1;
        format!("{what}_{}", self.named)
    }

    /// A constant of floats.
    pub(super) fn floats(&mut self, dims: &[usize], values: &[f32]) -> Name {
        self.constant(dims, FLOAT, values.iter().flat_map(|x| x.to_le_bytes()).collect())
    }

    /// A constant of whole numbers, in a vector.
    pub(super) fn ints(&mut self, values: &[i64]) -> Name {
        self.constant(&[values.len()], INT64, values.iter().flat_map(|x| x.to_le_bytes()).collect())
    }

    fn constant(&mut self, dims: &[usize], data_type: i32, raw_data: Vec<u8>) -> Name {
        let name = self.fresh("constant");
        let dims = dims.iter().map(|&d| d as i64).collect();
        self.graph.initializer.push(Tensor { dims, data_type, name: name.clone(), raw_data });
        name
    }

    /// What an operator makes of its inputs.
    pub(super) fn node(&mut self, operator: &str, inputs: &[&Name]) -> Name {
        self.node_with(operator, inputs, &[])
    }

    /// The same with attributes that are whole numbers.
    pub(super) fn node_with(&mut self, operator: &str, inputs: &[&Name], attributes: &[(&str, i64)]) -> Name {
        let attribute = |&(name, i): &(&str, i64)| Attribute {
            name: name.into(),
            i: Some(i),
            ints: Vec::new(),
            r#type: AN_INT,
        };
        self.push(operator, inputs, attributes.iter().map(attribute).collect())
    }

    /// The mean over axis 1, which stays with one item.
    pub(super) fn mean_of_axis_1(&mut self, input: &Name) -> Name {
        self.push("ReduceMean", &[input], vec![ints("axes", vec![1])])
    }

    /// Square kernels over images, as far apart each way.
    pub(super) fn convolution(
        &mut self,
        input: &Name,
        kernels: &Name,
        bias: &Name,
        kernel: usize,
        stride: usize,
    ) -> Name {
        let attributes =
            [("kernel_shape", kernel), ("strides", stride)].map(|(name, n)| ints(name, vec![n as i64; 2]));
        self.push("Conv", &[input, kernels, bias], attributes.to_vec())
    }

    /// Columns `from..to` of rows (of whatever rank: axis 1).
    pub(super) fn columns(&mut self, input: &Name, from: usize, to: usize) -> Name {
        let (from, to, axes) = (self.ints(&[from as i64]), self.ints(&[to as i64]), self.ints(&[1]));
        self.node("Slice", &[input, &from, &to, &axes])
    }

    /// A row for each, whatever it was.
    pub(super) fn cast_to_int(&mut self, input: &Name) -> Name {
        self.node_with("Cast", &[input], &[("to", i64::from(INT64))])
    }

    /// Not 0.
    pub(super) fn cast_to_bool(&mut self, input: &Name) -> Name {
        self.node_with("Cast", &[input], &[("to", i64::from(BOOL))])
    }

    fn push(&mut self, operator: &str, inputs: &[&Name], attribute: Vec<Attribute>) -> Name {
        let name = self.fresh(&operator.to_lowercase());
        self.graph.node.push(Node {
            input: inputs.iter().map(|&input| input.clone()).collect(),
            output: vec![name.clone()],
            name: name.clone(),
            op_type: operator.into(),
            attribute,
        });
        name
    }

    /// An input of rows of `width` floats.
    pub(super) fn input(&mut self, name: &str, width: usize) -> Name {
        self.graph.input.push(info(name, FLOAT, &[width]));
        name.into()
    }

    /// Gives a value to the outside as floats, or else as whole numbers; with `extent` after the axis of rows.
    pub(super) fn output(&mut self, name: &str, value: &Name, floats: bool, extent: &[usize]) {
        self.graph.node.push(Node {
            input: vec![value.clone()],
            output: vec![name.into()],
            name: name.into(),
            op_type: "Identity".into(),
            attribute: Vec::new(),
        });
        self.graph.output.push(info(name, if floats { FLOAT } else { INT64 }, extent));
    }

    /// The file's bytes.
    pub(super) fn finish(mut self, name: &str) -> Vec<u8> {
        self.graph.name = name.into();
        let model = Model {
            ir_version: 8,
            producer_name: "air-rl".into(),
            producer_version: env!("CARGO_PKG_VERSION").into(),
            graph: Some(self.graph),
            opset_import: vec![OperatorSet { domain: String::new(), version: 13 }],
        };
        model.encode_to_vec()
    }
}

fn ints(name: &str, ints: Vec<i64>) -> Attribute {
    Attribute { name: name.into(), i: None, ints, r#type: INTS }
}

fn info(name: &str, elem_type: i32, extent: &[usize]) -> ValueInfo {
    let rows = Dimension { value: Some(Extent::Param("rows".into())) };
    let others = extent.iter().map(|&n| Dimension { value: Some(Extent::Value(n as i64)) });
    let shape = Shape { dim: std::iter::once(rows).chain(others).collect() };
    let tensor_type = Some(TensorType { elem_type, shape: Some(shape) });
    ValueInfo { name: name.into(), r#type: Some(Type { tensor_type }) }
}
