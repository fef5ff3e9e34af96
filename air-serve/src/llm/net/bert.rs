//! BERT's encoder (Devlin et al., 2019), for embeddings of texts.

use air_core::team::Team;

use super::attention::{Heads, attend};
use super::dot::{Inputs, product};
use super::math;
use super::matrix::Matrix;
use super::pages::{PageShape, Pool};
use crate::llm::LlmError;
use crate::llm::load::Tensors;

/// What the network is.
#[derive(Clone, Debug)]
pub(crate) struct BertShape {
    pub hidden: usize,
    pub inner: usize,
    pub layers: usize,
    pub heads: usize,
    pub vocab: usize,
    pub positions: usize,
    pub types: usize,
    pub eps: f32,
}

/// The network with its weights.
#[derive(Debug)]
pub(crate) struct Bert {
    pub shape: BertShape,
    words: Matrix,
    positions: Matrix,
    types: Matrix,
    norm: Norm,
    layers: Vec<Layer>,
}

#[derive(Debug)]
struct Norm {
    weight: Vec<f32>,
    bias: Vec<f32>,
}

#[derive(Debug)]
struct Dense {
    weight: Matrix,
    bias: Vec<f32>,
}

#[derive(Debug)]
struct Layer {
    qkv: Dense,
    out: Dense,
    norm: Norm,
    up: Dense,
    down: Dense,
    out_norm: Norm,
}

impl Bert {
    pub(crate) fn read(shape: BertShape, tensors: &Tensors) -> Result<Self, LlmError> {
        let BertShape { hidden, inner, .. } = shape;
        let prefix = if tensors.has("bert.embeddings.word_embeddings.weight") { "bert." } else { "" };
        let norm = |name: &str| -> Result<Norm, LlmError> {
            Ok(Norm {
                weight: tensors.vector(&format!("{prefix}{name}.weight"), hidden)?,
                bias: tensors.vector(&format!("{prefix}{name}.bias"), hidden)?,
            })
        };
        let dense = |names: &[String], rows: usize, cols: usize| -> Result<Dense, LlmError> {
            let named = |what: &str| -> Vec<String> {
                names.iter().map(|name| format!("{prefix}{name}.{what}")).collect()
            };
            let (weights, biases) = (named("weight"), named("bias"));
            let weights: Vec<_> = weights.iter().map(|name| (&**name, rows)).collect();
            let biases =
                biases.iter().map(|name| tensors.vector(name, rows)).collect::<Result<Vec<_>, _>>()?;
            Ok(Dense { weight: tensors.stack(&weights, cols)?, bias: biases.concat() })
        };
        let layer = |number: usize| -> Result<Layer, LlmError> {
            let name = |part: &str| format!("encoder.layer.{number}.{part}");
            let qkv = ["query", "key", "value"].map(|part| name(&format!("attention.self.{part}")));
            Ok(Layer {
                qkv: dense(&qkv, hidden, hidden)?,
                out: dense(&[name("attention.output.dense")], hidden, hidden)?,
                norm: norm(&name("attention.output.LayerNorm"))?,
                up: dense(&[name("intermediate.dense")], inner, hidden)?,
                down: dense(&[name("output.dense")], hidden, inner)?,
                out_norm: norm(&name("output.LayerNorm"))?,
            })
        };
        let table = |name: &str, rows: usize| {
            tensors.matrix(&format!("{prefix}embeddings.{name}_embeddings.weight"), rows, hidden)
        };
        Ok(Bert {
            words: table("word", shape.vocab)?,
            positions: table("position", shape.positions)?,
            types: table("token_type", shape.types)?,
            norm: norm("embeddings.LayerNorm")?,
            layers: (0..shape.layers).map(layer).collect::<Result<_, _>>()?,
            shape,
        })
    }

    /// The last hidden state of every token of these texts, one text after another: `[tokens, hidden]`.
    pub(crate) fn forward(&self, team: &Team, texts: &[&[u32]]) -> Vec<f32> {
        let BertShape { hidden, inner, heads, eps, .. } = self.shape;
        let hd = hidden / heads;
        let shape = PageShape { layers: 1, kv_heads: heads, head_dim: hd };
        let pool = Pool::new(shape, usize::MAX);
        let rows: Vec<(usize, usize)> = texts
            .iter()
            .enumerate()
            .flat_map(|(text, tokens)| (0..tokens.len()).map(move |position| (text, position)))
            .collect();
        // Every token sees the whole text.
        let seen: Vec<(usize, usize)> = rows.iter().map(|(text, _)| (*text, texts[*text].len())).collect();
        let of = Heads { queries: heads, kv: heads, dim: hd };
        let mut state = vec![0.0; rows.len() * hidden];
        let mut other = vec![0.0; hidden];
        for (state, (text, position)) in state.chunks_exact_mut(hidden).zip(&rows) {
            self.words.widen_row(texts[*text][*position] as usize, state);
            for (table, row) in [(&self.types, 0), (&self.positions, *position)] {
                table.widen_row(row, &mut other);
                math::add(team, state, &other);
            }
        }
        self.norm.apply(team, &mut state, eps);
        let inputs = &mut Inputs::default();
        let mut qkv = vec![0.0; rows.len() * 3 * hidden];
        let mut attended = vec![0.0; state.len()];
        let mut change = vec![0.0; state.len()];
        let mut wide = vec![0.0; rows.len() * inner];
        let mut caches = Vec::new();
        for layer in &self.layers {
            layer.qkv.apply(team, &state, &mut qkv, inputs);
            caches.clear();
            caches.extend(texts.iter().map(|_| pool.cache()));
            for (cache, tokens) in caches.iter_mut().zip(texts) {
                cache.make_room(tokens.len());
                cache.extend(tokens.len());
            }
            for (row, (text, position)) in qkv.chunks_exact(3 * hidden).zip(&rows) {
                let (k, v) = row[hidden..].split_at(hidden);
                caches[*text].write(0, *position, k, v);
            }
            attend(team, of, 0, &seen, |text| &caches[text], &qkv, &mut attended);
            layer.out.apply(team, &attended, &mut change, inputs);
            math::add(team, &mut state, &change);
            layer.norm.apply(team, &mut state, eps);
            layer.up.apply(team, &state, &mut wide, inputs);
            math::gelu(team, &mut wide);
            layer.down.apply(team, &wide, &mut change, inputs);
            math::add(team, &mut state, &change);
            layer.out_norm.apply(team, &mut state, eps);
        }
        state
    }
}

impl Norm {
    fn apply(&self, team: &Team, x: &mut [f32], eps: f32) {
        math::layer_norm(team, x, &self.weight, &self.bias, eps);
    }
}

impl Dense {
    fn apply(&self, team: &Team, x: &[f32], to: &mut [f32], inputs: &mut Inputs) {
        product(team, x, &self.weight, to, inputs);
        math::add_bias(team, to, &self.bias);
    }
}
