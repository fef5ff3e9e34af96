//! Networks as safetensors files, laid out so that PyTorch loads them.
//!
//! A dense layer is stored as `nn.Sequential` names it (`0.weight`, `0.bias`, `2.weight`, …: normalisations and activations count), weights
//! `[outputs, inputs]`. A convolution is stored as `Conv2d` is, `[filters, planes, kernel, kernel]`; the image is flattened (which counts, too) with its
//! planes first. The configuration travels in the header under `air.mlp`.

use std::borrow::Cow;
use std::collections::HashMap;

use air_core::seed::Seed;
use safetensors::tensor::{Dtype, SafeTensors, View};

use super::{Gru, LayerShape, Mlp, MlpConfig, Module};
use crate::{Result, TrainError};

const CONFIG_KEY: &str = "air.mlp";

/// The network as the bytes of a safetensors file.
pub fn save_safetensors(mlp: &Mlp) -> Result<Vec<u8>> {
    let mut tensors = Vec::new();
    for (layer, [dense, norm]) in named(mlp) {
        let weights = transpose(&mlp.weights_planes_first(&layer), layer.inputs, layer.outputs);
        tensors.push((format!("{dense}.weight"), Flat::new(extents(&layer), &weights)));
        let mut vectors = vec![(format!("{dense}.bias"), layer.bias())];
        if layer.normalized {
            vectors
                .extend([(format!("{norm}.weight"), layer.gain()), (format!("{norm}.bias"), layer.offset())]);
        }
        for (name, part) in vectors {
            tensors.push((name, Flat::new(vec![layer.outputs], &mlp.params()[part])));
        }
    }
    let config = serde_json::to_string(mlp.config()).map_err(|e| TrainError::weights(e.to_string()))?;
    let header = HashMap::from([(CONFIG_KEY.to_owned(), config)]);
    safetensors::serialize(tensors, Some(header)).map_err(|e| TrainError::weights(e.to_string()))
}

/// Replaces the parameters of `mlp` by those in the bytes of a safetensors file, which must have its shape.
pub fn load_safetensors(mlp: &mut Mlp, bytes: &[u8]) -> Result<()> {
    let file = SafeTensors::deserialize(bytes).map_err(|e| TrainError::weights(e.to_string()))?;
    let (mut params, mut tensors) = (mlp.params().to_vec(), 0);
    for (layer, [dense, norm]) in named(mlp) {
        let weights = read(&file, &format!("{dense}.weight"), &extents(&layer))?;
        let weights = transpose(&weights, layer.outputs, layer.inputs);
        let ours = &mut params[layer.weights()];
        for (row, values) in layer.planes_first().into_iter().zip(weights.chunks_exact(layer.outputs)) {
            ours[row * layer.outputs..][..layer.outputs].copy_from_slice(values);
        }
        params[layer.bias()].copy_from_slice(&read(&file, &format!("{dense}.bias"), &[layer.outputs])?);
        tensors += 2;
        if layer.normalized {
            params[layer.gain()].copy_from_slice(&read(&file, &format!("{norm}.weight"), &[layer.outputs])?);
            params[layer.offset()].copy_from_slice(&read(&file, &format!("{norm}.bias"), &[layer.outputs])?);
            tensors += 2;
        }
    }
    if file.len() > tensors {
        let problem = format!("holds {} tensors, the network has {tensors}", file.len());
        return Err(TrainError::weights(problem));
    }
    mlp.params_mut().copy_from_slice(&params);
    Ok(())
}

/// Extents of a layer's weights in the file.
fn extents(layer: &LayerShape) -> Vec<usize> {
    let inputs = layer.window.map_or(vec![layer.inputs], |w| vec![w.planes, w.kernel, w.kernel]);
    [vec![layer.outputs], inputs].concat()
}

/// The layers with their places in an `nn.Sequential`: of the dense part, and of the normalisation if there is one.
fn named(mlp: &Mlp) -> impl Iterator<Item = (LayerShape, [usize; 2])> {
    let (mut place, mut image) = (0, false);
    mlp.layers().iter().map(move |layer| {
        place += usize::from(image && layer.window.is_none()); // it is flattened
        image = layer.window.is_some();
        let at = [place, place + 1];
        place += 2 + usize::from(layer.normalized);
        (*layer, at)
    })
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

/// Names of a [`Gru`]'s parts in PyTorch's `GRU`.
const GRU_PARTS: [&str; 4] = ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"];

impl Gru {
    /// The unit as the bytes of a safetensors file, as PyTorch's `GRU` names and lays out its parts.
    pub fn to_safetensors(&self) -> Result<Vec<u8>> {
        let width = 3 * self.units();
        let tensors = GRU_PARTS.iter().zip(self.parts()).map(|(name, part)| {
            let values = &self.params()[part];
            let rows = values.len() / width;
            let tensor = if name.starts_with("bias") {
                Flat::new(vec![width], values)
            } else {
                Flat::new(vec![width, rows], &transpose(values, rows, width))
            };
            ((*name).to_owned(), tensor)
        });
        safetensors::serialize(tensors, None).map_err(|e| TrainError::weights(e.to_string()))
    }

    /// The unit in the bytes of such a file.
    pub fn from_safetensors(bytes: &[u8]) -> Result<Self> {
        let file = SafeTensors::deserialize(bytes).map_err(|e| TrainError::weights(e.to_string()))?;
        let first = file.tensor(GRU_PARTS[0]).map_err(|e| TrainError::weights(e.to_string()))?;
        let &[width, inputs] = first.shape() else {
            return Err(TrainError::weights(format!("{}: expected two axes", GRU_PARTS[0])));
        };
        let mut gru = Self::new(inputs, width / 3, Seed::new(0))?;
        for (name, part) in GRU_PARTS.iter().zip(gru.parts()) {
            let rows = part.len() / (3 * gru.units());
            let values = if name.starts_with("bias") {
                read(&file, name, &[3 * gru.units()])?
            } else {
                transpose(&read(&file, name, &[3 * gru.units(), rows])?, 3 * gru.units(), rows)
            };
            gru.params_mut()[part].copy_from_slice(&values);
        }
        Ok(gru)
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
