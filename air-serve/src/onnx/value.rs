//! What flows along the edges of a graph.

use std::sync::Arc;

use ndarray::{ArrayD, IxDyn};

use super::proto::{Tensor, data_type};

/// Class labels of a classifier, in the order of its scores.
#[derive(Clone, Debug, PartialEq)]
pub enum Labels {
    /// Integer labels.
    Ints(Arc<[i64]>),
    /// Text labels.
    Texts(Arc<[Arc<str>]>),
}

impl Labels {
    /// Number of classes.
    pub fn len(&self) -> usize {
        match self {
            Labels::Ints(labels) => labels.len(),
            Labels::Texts(labels) => labels.len(),
        }
    }

    /// Whether there is no class at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The labels of the given class indices (each below `len`) as one tensor.
    pub(crate) fn pick(&self, classes: &[usize]) -> Value {
        match self {
            Labels::Ints(labels) => Value::I64(vector(classes.iter().map(|&class| labels[class]).collect())),
            Labels::Texts(labels) => {
                Value::Text(vector(classes.iter().map(|&class| labels[class].clone()).collect()))
            }
        }
    }
}

/// A tensor, or what `ZipMap` makes of one. `int32` tensors are kept as `int64`.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `tensor(float)`
    F32(ArrayD<f32>),
    /// `tensor(double)`
    F64(ArrayD<f64>),
    /// `tensor(int64)` and `tensor(int32)`
    I64(ArrayD<i64>),
    /// `tensor(bool)`
    Bool(ArrayD<bool>),
    /// `tensor(string)`
    Text(ArrayD<Arc<str>>),
    /// `seq(map(label, float))`: one map a row of the `[rows, classes]` scores.
    Maps {
        /// The keys of every map.
        labels: Labels,
        /// The values, one row a map.
        scores: ArrayD<f32>,
    },
}

impl Value {
    /// The ONNX name of the element type.
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::F32(_) => "float",
            Value::F64(_) => "double",
            Value::I64(_) => "int64",
            Value::Bool(_) => "bool",
            Value::Text(_) => "string",
            Value::Maps { .. } => "seq(map)",
        }
    }

    /// Dimensions; of maps, those of their scores.
    pub fn shape(&self) -> &[usize] {
        match self {
            Value::F32(array) | Value::Maps { scores: array, .. } => array.shape(),
            Value::F64(array) => array.shape(),
            Value::I64(array) => array.shape(),
            Value::Bool(array) => array.shape(),
            Value::Text(array) => array.shape(),
        }
    }

    /// Reads a constant. The element count is checked against the data before anything is allocated.
    pub(crate) fn from_proto(tensor: &Tensor) -> Result<Value, String> {
        if tensor.data_location.unwrap_or(0) != 0 {
            return Err("its data lies in another file, which is not supported".to_owned());
        }
        let mut shape = Vec::with_capacity(tensor.dims.len());
        let mut len = 1usize;
        for &dim in &tensor.dims {
            let dim = usize::try_from(dim).map_err(|_| format!("dimension {dim} is negative"))?;
            len = len.checked_mul(dim).ok_or("its dimensions overflow")?;
            shape.push(dim);
        }
        if shape.len() > 8 {
            return Err(format!("{} dimensions are more than the limit of 8", shape.len()));
        }
        let raw = tensor.raw_data.as_deref();
        Ok(match tensor.data_type.unwrap_or(0) {
            data_type::FLOAT => {
                Value::F32(array(&shape, len, read(raw, &tensor.float_data, f32::from_le_bytes)?)?)
            }
            data_type::DOUBLE => {
                Value::F64(array(&shape, len, read(raw, &tensor.double_data, f64::from_le_bytes)?)?)
            }
            data_type::INT64 => {
                Value::I64(array(&shape, len, read(raw, &tensor.int64_data, i64::from_le_bytes)?)?)
            }
            data_type::INT32 => {
                let data = read(raw, &tensor.int32_data, i32::from_le_bytes)?;
                Value::I64(array(&shape, len, data.into_iter().map(i64::from).collect())?)
            }
            data_type::UINT8 => {
                let data = match raw {
                    Some(raw) => raw.iter().map(|&byte| i64::from(byte)).collect(),
                    None => tensor.int32_data.iter().map(|&value| i64::from(value)).collect(),
                };
                Value::I64(array(&shape, len, data)?)
            }
            data_type::BOOL => {
                let data = match raw {
                    Some(raw) => raw.iter().map(|&byte| byte != 0).collect(),
                    None => tensor.int32_data.iter().map(|&value| value != 0).collect(),
                };
                Value::Bool(array(&shape, len, data)?)
            }
            data_type::STRING => {
                let texts: Result<Vec<_>, _> = tensor.string_data.iter().map(|bytes| text(bytes)).collect();
                Value::Text(array(&shape, len, texts?)?)
            }
            other => return Err(format!("element type {} is not supported", data_type::name(other))),
        })
    }

    /// The numbers as `f32`, converted where they are not, or why there are none.
    pub(crate) fn to_f32(&self) -> Result<std::borrow::Cow<'_, ArrayD<f32>>, String> {
        use std::borrow::Cow;
        Ok(match self {
            Value::F32(array) => Cow::Borrowed(array),
            Value::F64(array) => Cow::Owned(array.mapv(|x| x as f32)),
            Value::I64(array) => Cow::Owned(array.mapv(|x| x as f32)),
            Value::Bool(array) => Cow::Owned(array.mapv(|x| f32::from(u8::from(x)))),
            Value::Text(_) | Value::Maps { .. } => {
                return Err(format!("expected numbers, got {}", self.type_name()));
            }
        })
    }

    /// The integers, for shapes and indices.
    pub(crate) fn as_i64(&self) -> Result<&ArrayD<i64>, String> {
        match self {
            Value::I64(array) => Ok(array),
            other => Err(format!("expected int64, got {}", other.type_name())),
        }
    }
}

/// A one-dimensional tensor.
pub(crate) fn vector<T>(data: Vec<T>) -> ArrayD<T> {
    ndarray::Array1::from_vec(data).into_dyn()
}

/// Text from the bytes of an attribute or a constant.
pub(crate) fn text(bytes: &[u8]) -> Result<Arc<str>, String> {
    std::str::from_utf8(bytes).map(Arc::from).map_err(|_| "a string is not UTF-8".to_owned())
}

fn array<T>(shape: &[usize], len: usize, data: Vec<T>) -> Result<ArrayD<T>, String> {
    let got = data.len();
    if got != len {
        return Err(format!("its shape {shape:?} needs {len} elements, it has {got}"));
    }
    ArrayD::from_shape_vec(IxDyn(shape), data).map_err(|error| error.to_string())
}

fn read<T: Copy, const N: usize>(
    raw: Option<&[u8]>,
    typed: &[T],
    from: fn([u8; N]) -> T,
) -> Result<Vec<T>, String> {
    let Some(raw) = raw.filter(|raw| !raw.is_empty()) else { return Ok(typed.to_vec()) };
    let (chunks, rest) = raw.as_chunks::<N>();
    if !rest.is_empty() {
        return Err(format!("its {} raw bytes are not a multiple of {N}", raw.len()));
    }
    Ok(chunks.iter().map(|&chunk| from(chunk)).collect())
}
