//! Networks as safetensors files, laid out so that PyTorch loads them.
//!
//! A dense layer is stored as `nn.Sequential` names it (`0.weight`, `0.bias`, `2.weight`, …: activations count), weights
//! `[outputs, inputs]`. The configuration travels in the header under `air.mlp`.

use std::borrow::Cow;
use std::collections::HashMap;

use air_core::seed::Seed;
use safetensors::tensor::{Dtype, SafeTensors, View};

use super::{Mlp, MlpConfig, Module};
use crate::{Result, TrainError};

const CONFIG_KEY: &str = "air.mlp";

/// The network as the bytes of a safetensors file.
pub fn save_safetensors(mlp: &Mlp) -> Result<Vec<u8>> {
    let mut tensors = Vec::new();
    for (i, layer) in mlp.layers().iter().enumerate() {
        let weights = transpose(&mlp.params()[layer.weights()], layer.inputs, layer.outputs);
        tensors.push((format!("{}.weight", 2 * i), Flat::new(vec![layer.outputs, layer.inputs], &weights)));
        tensors
            .push((format!("{}.bias", 2 * i), Flat::new(vec![layer.outputs], &mlp.params()[layer.bias()])));
    }
    let config = serde_json::to_string(mlp.config()).map_err(|e| TrainError::weights(e.to_string()))?;
    let header = HashMap::from([(CONFIG_KEY.to_owned(), config)]);
    safetensors::serialize(tensors, Some(header)).map_err(|e| TrainError::weights(e.to_string()))
}

/// Replaces the parameters of `mlp` by those in the bytes of a safetensors file, which must have its shape.
pub fn load_safetensors(mlp: &mut Mlp, bytes: &[u8]) -> Result<()> {
    let file = SafeTensors::deserialize(bytes).map_err(|e| TrainError::weights(e.to_string()))?;
    let mut params = mlp.params().to_vec();
    for (i, layer) in mlp.layers().iter().enumerate() {
        let weights = read(&file, &format!("{}.weight", 2 * i), &[layer.outputs, layer.inputs])?;
        params[layer.weights()].copy_from_slice(&transpose(&weights, layer.outputs, layer.inputs));
        params[layer.bias()].copy_from_slice(&read(&file, &format!("{}.bias", 2 * i), &[layer.outputs])?);
    }
    if file.len() > 2 * mlp.layers().len() {
        let problem = format!("holds {} tensors, the network has {}", file.len(), 2 * mlp.layers().len());
        return Err(TrainError::weights(problem));
    }
    mlp.params_mut().copy_from_slice(&params);
    Ok(())
}

impl Mlp {
    /// The network that [`save_safetensors`] wrote, configuration and all.
    pub fn from_safetensors(bytes: &[u8]) -> Result<Self> {
        let (_, header) =
            SafeTensors::read_metadata(bytes).map_err(|e| TrainError::weights(e.to_string()))?;
        let config = header.metadata().as_ref().and_then(|m| m.get(CONFIG_KEY)).ok_or_else(|| {
            TrainError::weights(format!(
                "the header has no {CONFIG_KEY}; build the network and use load_safetensors"
            ))
        })?;
        let config: MlpConfig =
            serde_json::from_str(config).map_err(|e| TrainError::weights(format!("{CONFIG_KEY}: {e}")))?;
        let mut mlp = Self::new(&config, Seed::new(0))?;
        load_safetensors(&mut mlp, bytes)?;
        Ok(mlp)
    }
}

fn read(file: &SafeTensors<'_>, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
    let tensor = file.tensor(name).map_err(|e| TrainError::weights(format!("{name}: {e}")))?;
    if tensor.dtype() != Dtype::F32 || tensor.shape() != shape {
        return Err(TrainError::weights(format!(
            "{name}: expected F32 {shape:?}, got {:?} {:?}",
            tensor.dtype(),
            tensor.shape()
        )));
    }
    let (values, _) = tensor.data().as_chunks::<4>();
    Ok(values.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
}

/// `[rows, cols]` → `[cols, rows]`.
fn transpose(values: &[f32], rows: usize, cols: usize) -> Vec<f32> {
    (0..rows * cols).map(|i| values[i % rows * cols + i / rows]).collect()
}

struct Flat {
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Flat {
    fn new(shape: Vec<usize>, values: &[f32]) -> Self {
        Self { shape, bytes: values.iter().flat_map(|v| v.to_le_bytes()).collect() }
    }
}

impl View for Flat {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}
