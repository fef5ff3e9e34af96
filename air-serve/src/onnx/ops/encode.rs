//! What turns categories into numbers and back, and fills gaps: `OneHotEncoder`, `LabelEncoder`, `CategoryMapper`, `Imputer`, `Binarizer`,
//! `FeatureVectorizer`.

use std::collections::HashMap;
use std::sync::Arc;

use ndarray::{ArrayD, Axis, IxDyn};

use super::{MAX_ELEMENTS, Operator, matrix, need};
use crate::onnx::error::Reason;
use crate::onnx::node::Node;
use crate::onnx::value::{Labels, Value, text};

/// A category, as something to look up.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Key {
    Int(i64),
    /// The bits of a number; those of one NaN for all.
    Float(u32),
    Text(Arc<str>),
}

impl Key {
    fn float(x: f32) -> Key {
        // Zero has two patterns, what is no number has many.
        Key::Float(if x.is_nan() { f32::NAN.to_bits() } else { (x + 0.0).to_bits() })
    }
}

/// The categories of a tensor. `ints`: the table is of integers, whatever numbers come.
fn keys(value: &Value, ints: bool) -> Result<Vec<Key>, Reason> {
    Ok(match value {
        Value::Text(array) => array.iter().map(|text| Key::Text(Arc::clone(text))).collect(),
        Value::I64(array) if ints => array.iter().map(|&x| Key::Int(x)).collect(),
        other => {
            let as_key = if ints { |x: f32| Key::Int(x as i64) } else { Key::float };
            other.to_f32()?.iter().map(|&x| as_key(x)).collect()
        }
    })
}

fn keys_of(labels: &Labels) -> Vec<Key> {
    match labels {
        Labels::Ints(labels) => labels.iter().map(|&label| Key::Int(label)).collect(),
        Labels::Texts(labels) => labels.iter().map(|label| Key::Text(Arc::clone(label))).collect(),
    }
}

/// Where each category stands. Of one that is there twice, the first counts.
fn table(keys: Vec<Key>) -> HashMap<Key, usize> {
    let mut table = HashMap::with_capacity(keys.len());
    for (index, key) in keys.into_iter().enumerate() {
        table.entry(key).or_insert(index);
    }
    table
}

fn has_ints(table: &HashMap<Key, usize>) -> bool {
    table.keys().any(|key| matches!(key, Key::Int(_)))
}

/// `OneHotEncoder`: one more dimension, 1 where the category is.
pub(crate) struct OneHot {
    table: HashMap<Key, usize>,
    len: usize,
    /// A category that is not known is all zeros; otherwise an error.
    zeros: bool,
}

impl OneHot {
    pub(super) fn build(node: &Node<'_>) -> Result<Self, Reason> {
        let labels = node.labels("cats_int64s", "cats_strings")?.ok_or("it has no categories")?;
        Ok(OneHot { table: table(keys_of(&labels)), len: labels.len(), zeros: node.int("zeros", 1) != 0 })
    }
}

impl Operator for OneHot {
    fn run(&self, inputs: &[Option<&Value>]) -> Result<Vec<Value>, Reason> {
        let value = need(inputs, 0)?;
        let keys = keys(value, has_ints(&self.table))?;
        let len = keys.len().saturating_mul(self.len);
        if len > MAX_ELEMENTS {
            return Err(format!("the result would have {len} elements, the limit is {MAX_ELEMENTS}"));
        }
        let mut hot = vec![0f32; len];
        for (index, key) in keys.iter().enumerate() {
            match self.table.get(key) {
                Some(&place) => hot[index * self.len + place] = 1.0,
                None if self.zeros => {}
                None => return Err(format!("element {index} is of no category it knows")),
            }
        }
        let shape: Vec<usize> = value.shape().iter().copied().chain([self.len]).collect();
        Ok(vec![Value::F32(shaped(&shape, hot)?)])
    }
}

fn shaped<T>(shape: &[usize], data: Vec<T>) -> Result<ArrayD<T>, Reason> {
    ArrayD::from_shape_vec(IxDyn(shape), data).map_err(|error| error.to_string())
}

/// What categories become, and what one does that is not known.
enum Targets {
    Ints(Vec<i64>, i64),
    Floats(Vec<f32>, f32),
    Texts(Vec<Arc<str>>, Arc<str>),
}

/// `LabelEncoder` and `CategoryMapper`: looks every element up.
pub(crate) struct Lookup {
    table: HashMap<Key, usize>,
    targets: Targets,
    /// Where elements of the other kind are looked up: some nodes go both ways.
    back: Option<Box<Lookup>>,
}

impl Lookup {
    /// By version: `classes_strings` both ways, then lists of keys and values, then tensors too.
    pub(super) fn label_encoder(node: &Node<'_>) -> Result<Self, Reason> {
        let classes = node.strings("classes_strings")?;
        if !classes.is_empty() {
            let numbers = (0..classes.len() as i64).collect();
            return Self::both_ways(node, numbers, classes);
        }
        let keys = match node.tensor("keys_tensor") {
            Some(tensor) => {
                let tensor = Value::from_proto(tensor)?;
                keys(&tensor, matches!(tensor, Value::I64(_)))?
            }
            None if !node.floats("keys_floats").is_empty() => {
                node.floats("keys_floats").iter().map(|&x| Key::float(x)).collect()
            }
            None => keys_of(&node.labels("keys_int64s", "keys_strings")?.ok_or("it has no keys")?),
        };
        let targets = Self::targets(node)?;
        let len = match &targets {
            Targets::Ints(values, _) => values.len(),
            Targets::Floats(values, _) => values.len(),
            Targets::Texts(values, _) => values.len(),
        };
        if len != keys.len() {
            return Err(format!("it has {} keys for {len} values", keys.len()));
        }
        Ok(Lookup { table: table(keys), targets, back: None })
    }

    fn targets(node: &Node<'_>) -> Result<Targets, Reason> {
        let default_int = node.int("default_int64", -1);
        let default_float = node.float("default_float", -0.0);
        let default_text: Arc<str> = node.string("default_string", "_Unused")?.into();
        if let Some(tensor) = node.tensor("values_tensor") {
            let default = node.tensor("default_tensor").map(Value::from_proto).transpose()?;
            let missing = || "its default is not of the type of its values".to_owned();
            return Ok(match (Value::from_proto(tensor)?, default) {
                (Value::I64(values), None) => Targets::Ints(values.into_iter().collect(), default_int),
                (Value::I64(values), Some(Value::I64(default))) => {
                    Targets::Ints(values.into_iter().collect(), *default.first().ok_or_else(missing)?)
                }
                (Value::F32(values), None) => Targets::Floats(values.into_iter().collect(), default_float),
                (Value::F32(values), Some(Value::F32(default))) => {
                    Targets::Floats(values.into_iter().collect(), *default.first().ok_or_else(missing)?)
                }
                (Value::Text(values), None) => Targets::Texts(values.into_iter().collect(), default_text),
                (Value::Text(values), Some(Value::Text(default))) => {
                    Targets::Texts(values.into_iter().collect(), default.first().ok_or_else(missing)?.clone())
                }
                _ => return Err(missing()),
            });
        }
        let floats = node.floats("values_floats");
        if !floats.is_empty() {
            return Ok(Targets::Floats(floats.to_vec(), default_float));
        }
        match node.labels("values_int64s", "values_strings")?.ok_or("it has no values")? {
            Labels::Ints(values) => Ok(Targets::Ints(values.to_vec(), default_int)),
            Labels::Texts(values) => Ok(Targets::Texts(values.to_vec(), default_text)),
        }
    }

    pub(super) fn category_mapper(node: &Node<'_>) -> Result<Self, Reason> {
        let (numbers, texts) = (node.ints("cats_int64s").to_vec(), node.strings("cats_strings")?);
        if numbers.len() != texts.len() || numbers.is_empty() {
            return Err(format!("it has {} integers for {} texts", numbers.len(), texts.len()));
        }
        Self::both_ways(node, numbers, texts)
    }

    /// Texts to integers, and integers to texts.
    fn both_ways(node: &Node<'_>, numbers: Vec<i64>, texts: Vec<Arc<str>>) -> Result<Self, Reason> {
        let ints = table(numbers.iter().map(|&number| Key::Int(number)).collect());
        let words = table(texts.iter().cloned().map(Key::Text).collect());
        let default_text = text(node.string("default_string", "_Unused")?.as_bytes())?;
        let back = Lookup { table: ints, targets: Targets::Texts(texts, default_text), back: None };
        let targets = Targets::Ints(numbers, node.int("default_int64", -1));
        Ok(Lookup { table: words, targets, back: Some(Box::new(back)) })
    }
}

impl Operator for Lookup {
    fn run(&self, inputs: &[Option<&Value>]) -> Result<Vec<Value>, Reason> {
        let value = need(inputs, 0)?;
        if let Some(back) = self.back.as_ref().filter(|_| !matches!(value, Value::Text(_))) {
            return back.run(inputs);
        }
        let keys = keys(value, has_ints(&self.table))?;
        let places = keys.iter().map(|key| self.table.get(key).copied());
        fn pick<T: Clone>(places: impl Iterator<Item = Option<usize>>, values: &[T], default: &T) -> Vec<T> {
            places.map(|place| place.map_or(default, |place| &values[place]).clone()).collect()
        }
        Ok(vec![match &self.targets {
            Targets::Ints(values, default) => {
                Value::I64(shaped(value.shape(), pick(places, values, default))?)
            }
            Targets::Floats(values, default) => {
                Value::F32(shaped(value.shape(), pick(places, values, default))?)
            }
            Targets::Texts(values, default) => {
                Value::Text(shaped(value.shape(), pick(places, values, default))?)
            }
        }])
    }
}

/// `Imputer`: fills what is missing, by column.
pub(crate) struct Imputer {
    floats: Vec<f32>,
    ints: Vec<i64>,
    missing: f32,
    missing_int: i64,
}

impl Imputer {
    pub(super) fn build(node: &Node<'_>) -> Result<Self, Reason> {
        let imputer = Imputer {
            floats: node.floats("imputed_value_floats").to_vec(),
            ints: node.ints("imputed_value_int64s").to_vec(),
            missing: node.float("replaced_value_float", 0.0),
            missing_int: node.int("replaced_value_int64", 0),
        };
        if imputer.floats.is_empty() && imputer.ints.is_empty() {
            return Err("it has no values to fill in".to_owned());
        }
        Ok(imputer)
    }
}

impl Operator for Imputer {
    fn run(&self, inputs: &[Option<&Value>]) -> Result<Vec<Value>, Reason> {
        fn filled<T: Copy>(
            mut x: ArrayD<T>,
            fill: &[T],
            is_missing: impl Fn(T) -> bool,
        ) -> Result<ArrayD<T>, Reason> {
            let (_, columns) = matrix(x.shape())?;
            if fill.len() != 1 && fill.len() != columns {
                return Err(format!("it has {} values to fill {columns} columns with", fill.len()));
            }
            let last = Axis(x.ndim() - 1);
            for (column, mut lane) in x.axis_iter_mut(last).enumerate() {
                let fill = if fill.len() == 1 { fill[0] } else { fill[column] };
                lane.mapv_inplace(|x| if is_missing(x) { fill } else { x });
            }
            Ok(x)
        }
        let missing = self.missing;
        let is_missing = move |x: f32| x == missing || (x.is_nan() && missing.is_nan());
        Ok(vec![match need(inputs, 0)? {
            Value::I64(x) if self.floats.is_empty() => {
                Value::I64(filled(x.clone(), &self.ints, |x| x == self.missing_int)?)
            }
            Value::F64(x) => {
                let fill: Vec<f64> = self.floats.iter().map(|&x| f64::from(x)).collect();
                let is_missing = |x: f64| x == f64::from(missing) || (x.is_nan() && missing.is_nan());
                Value::F64(filled(x.clone(), &fill, is_missing)?)
            }
            x => Value::F32(filled(x.to_f32()?.into_owned(), &self.floats, is_missing)?),
        }])
    }
}

/// `Binarizer`: 1 above the threshold, 0 otherwise.
pub(crate) struct Binarizer {
    pub threshold: f32,
}

impl Operator for Binarizer {
    fn run(&self, inputs: &[Option<&Value>]) -> Result<Vec<Value>, Reason> {
        let threshold = self.threshold;
        let above = need(inputs, 0)?.to_f32()?.mapv(|x| f32::from(u8::from(x > threshold)));
        Ok(vec![Value::F32(above)])
    }
}

/// `FeatureVectorizer`: columns beside each other, as floats.
pub(crate) struct FeatureVectorizer;

impl Operator for FeatureVectorizer {
    fn run(&self, inputs: &[Option<&Value>]) -> Result<Vec<Value>, Reason> {
        let mut columns = Vec::with_capacity(inputs.len());
        for index in 0..inputs.len() {
            let x = need(inputs, index)?.to_f32()?.into_owned();
            let (rows, width) = matrix(x.shape())?;
            columns.push(x.into_shape_with_order(IxDyn(&[rows, width])).map_err(|error| error.to_string())?);
        }
        let views: Vec<_> = columns.iter().map(|column| column.view()).collect();
        Ok(vec![Value::F32(ndarray::concatenate(Axis(1), &views).map_err(|error| error.to_string())?)])
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::onnx::proto::{Attribute, Node as NodeProto};
    use crate::onnx::value::vector;

    fn node(attributes: Vec<Attribute>) -> NodeProto {
        NodeProto { attribute: attributes, ..NodeProto::default() }
    }

    fn ints(name: &str, ints: &[i64]) -> Attribute {
        Attribute { name: Some(name.to_owned()), ints: ints.to_vec(), ..Attribute::default() }
    }

    fn int(name: &str, int: i64) -> Attribute {
        Attribute { name: Some(name.to_owned()), i: Some(int), ..Attribute::default() }
    }

    fn floats(name: &str, floats: &[f32]) -> Attribute {
        Attribute { name: Some(name.to_owned()), floats: floats.to_vec(), ..Attribute::default() }
    }

    fn strings(name: &str, strings: &[&str]) -> Attribute {
        let strings = strings.iter().map(|text| text.as_bytes().to_vec()).collect();
        Attribute { name: Some(name.to_owned()), strings, ..Attribute::default() }
    }

    fn texts(texts: &[&str]) -> Value {
        Value::Text(vector(texts.iter().map(|&text| Arc::from(text)).collect()))
    }

    fn run(operator: &dyn Operator, input: &Value) -> Result<Value, Reason> {
        Ok(operator.run(&[Some(input)])?.remove(0))
    }

    #[test]
    fn the_first_label_encoders_go_both_ways() {
        let proto = node(vec![strings("classes_strings", &["no", "yes"]), int("default_int64", 9)]);
        let encoder = Lookup::label_encoder(&Node::new(&proto, 1)).unwrap();
        assert_eq!(run(&encoder, &texts(&["yes", "?", "no"])), Ok(Value::I64(vector(vec![1, 9, 0]))));
        assert_eq!(run(&encoder, &Value::I64(vector(vec![1, 5]))), Ok(texts(&["yes", "_Unused"])));
    }

    #[test]
    fn later_ones_map_keys_to_values_and_know_what_is_no_number() {
        let proto =
            node(vec![floats("keys_floats", &[f32::NAN, 0.0, 1.5]), ints("values_int64s", &[7, 8, 9])]);
        let encoder = Lookup::label_encoder(&Node::new(&proto, 2)).unwrap();
        let asked = Value::F32(vector(vec![1.5, -0.0, f32::NAN, 2.0]));
        assert_eq!(run(&encoder, &asked), Ok(Value::I64(vector(vec![9, 8, 7, -1]))));
        let proto = node(vec![floats("keys_floats", &[0.0]), ints("values_int64s", &[7, 8])]);
        let error = Lookup::label_encoder(&Node::new(&proto, 2)).err().unwrap();
        assert!(error.contains("1 keys for 2 values"), "{error}");
    }

    #[test]
    fn an_unknown_category_is_zeros_or_an_error_as_the_node_says() {
        let cats = || ints("cats_int64s", &[4, 6]);
        let proto = node(vec![cats()]);
        let encoder = OneHot::build(&Node::new(&proto, 1)).unwrap();
        // Integers that come as floats are integers.
        let hot = Value::F32(ArrayD::from_shape_vec(IxDyn(&[2, 2]), vec![0.0, 1.0, 0.0, 0.0]).unwrap());
        assert_eq!(run(&encoder, &Value::F32(vector(vec![6.0, 5.0]))), Ok(hot));
        let proto = node(vec![cats(), int("zeros", 0)]);
        let strict = OneHot::build(&Node::new(&proto, 1)).unwrap();
        assert!(run(&strict, &Value::I64(vector(vec![6, 5]))).unwrap_err().contains("element 1"));
    }

    #[test]
    fn gaps_are_filled_by_column_and_the_number_of_values_must_fit() {
        let missing = Attribute {
            name: Some("replaced_value_float".to_owned()),
            f: Some(f32::NAN),
            ..Attribute::default()
        };
        let proto = node(vec![floats("imputed_value_floats", &[1.0, 2.0]), missing]);
        let imputer = Imputer::build(&Node::new(&proto, 1)).unwrap();
        let gaps = |data: Vec<f32>| Value::F32(ArrayD::from_shape_vec(IxDyn(&[2, 2]), data).unwrap());
        let filled = run(&imputer, &gaps(vec![f32::NAN, 5.0, 6.0, f32::NAN]));
        assert_eq!(filled, Ok(gaps(vec![1.0, 5.0, 6.0, 2.0])));
        let wide = Value::F32(ArrayD::zeros(IxDyn(&[1, 3])));
        assert!(run(&imputer, &wide).unwrap_err().contains("2 values to fill 3 columns"));
    }
}
