//! Llama's network (Touvron et al., 2023) and its relatives: with biases for queries, keys and values (Qwen 2), with norms of queries and keys (Qwen 3).

use air_core::team::Team;

use super::attention::{Heads, attend};
use super::dot::{Inputs, product};
use super::math;
use super::matrix::Matrix;
use super::pages::{Cache, PageShape};
use super::rope::{Llama3Scaling, Rope};
use crate::llm::LlmError;
use crate::llm::load::Tensors;

/// What the network is.
#[derive(Clone, Debug)]
pub(crate) struct LlamaShape {
    pub hidden: usize,
    pub inner: usize,
    pub layers: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub vocab: usize,
    pub positions: usize,
    pub eps: f32,
    pub theta: f64,
    pub linear: f64,
    pub llama3: Option<Llama3Scaling>,
    pub tied: bool,
}

impl LlamaShape {
    pub(crate) fn page(&self) -> PageShape {
        PageShape { layers: self.layers, kv_heads: self.kv_heads, head_dim: self.head_dim }
    }
}

/// The network with its weights.
#[derive(Debug)]
pub(crate) struct Llama {
    pub shape: LlamaShape,
    embed: Matrix,
    layers: Vec<Layer>,
    norm: Vec<f32>,
    /// None where the embedding serves for it.
    head: Option<Matrix>,
    rope: Rope,
}

#[derive(Debug)]
struct Layer {
    norm: Vec<f32>,
    /// Queries, keys and values below one another.
    qkv: Matrix,
    qkv_bias: Vec<f32>,
    q_norm: Vec<f32>,
    k_norm: Vec<f32>,
    out: Matrix,
    out_bias: Vec<f32>,
    mlp_norm: Vec<f32>,
    /// Gate and up below one another.
    gate_up: Matrix,
    gate_up_bias: Vec<f32>,
    down: Matrix,
    down_bias: Vec<f32>,
}

/// Some tokens of one sequence: its next token, or a piece of its prompt.
pub(crate) struct Segment<'a> {
    pub tokens: &'a [u32],
    /// What came before, and room for these tokens; afterwards they are in it too.
    pub cache: &'a mut Cache,
    /// Of how many of them, from the last backwards, logits are wanted.
    pub logits: usize,
}

/// Working memory of a step, kept from one to the next.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    inputs: Inputs,
    state: Vec<f32>,
    normed: Vec<f32>,
    qkv: Vec<f32>,
    attended: Vec<f32>,
    change: Vec<f32>,
    gate_up: Vec<f32>,
    inner: Vec<f32>,
    /// `[tokens wanted, vocab]`, in the order of the segments.
    pub logits: Vec<f32>,
}

impl Llama {
    /// Reads the weights, for contexts of so many tokens.
    pub(crate) fn read(shape: LlamaShape, context: usize, tensors: &Tensors) -> Result<Self, LlmError> {
        let LlamaShape { hidden, inner, heads, kv_heads, head_dim: hd, vocab, .. } = shape;
        let layer = |number: usize| -> Result<Layer, LlmError> {
            let name = |part: &str| format!("model.layers.{number}.{part}");
            let attn = |part: &str| name(&format!("self_attn.{part}"));
            let mlp = |part: &str| name(&format!("mlp.{part}"));
            let optional = |name: &str, len: usize| tensors.join(&[(name, len)]);
            let qkv = |what: &str| {
                [("q_proj", heads), ("k_proj", kv_heads), ("v_proj", kv_heads)]
                    .map(|(part, heads)| (attn(&format!("{part}.{what}")), heads * hd))
            };
            let gate_up =
                |what: &str| ["gate_proj", "up_proj"].map(|part| (mlp(&format!("{part}.{what}")), inner));
            Ok(Layer {
                norm: tensors.vector(&name("input_layernorm.weight"), hidden)?,
                qkv: tensors.stack(&qkv("weight").each_ref().map(|(name, rows)| (&**name, *rows)), hidden)?,
                qkv_bias: tensors.join(&qkv("bias").each_ref().map(|(name, rows)| (&**name, *rows)))?,
                q_norm: optional(&attn("q_norm.weight"), hd)?,
                k_norm: optional(&attn("k_norm.weight"), hd)?,
                out: tensors.matrix(&attn("o_proj.weight"), hidden, heads * hd)?,
                out_bias: optional(&attn("o_proj.bias"), hidden)?,
                mlp_norm: tensors.vector(&name("post_attention_layernorm.weight"), hidden)?,
                gate_up: tensors
                    .stack(&gate_up("weight").each_ref().map(|(name, rows)| (&**name, *rows)), hidden)?,
                gate_up_bias: tensors
                    .join(&gate_up("bias").each_ref().map(|(name, rows)| (&**name, *rows)))?,
                down: tensors.matrix(&mlp("down_proj.weight"), hidden, inner)?,
                down_bias: optional(&mlp("down_proj.bias"), hidden)?,
            })
        };
        let head = if shape.tied { None } else { Some(tensors.matrix("lm_head.weight", vocab, hidden)?) };
        Ok(Llama {
            embed: tensors.matrix("model.embed_tokens.weight", vocab, hidden)?,
            layers: (0..shape.layers).map(layer).collect::<Result<_, _>>()?,
            norm: tensors.vector("model.norm.weight", hidden)?,
            head,
            rope: Rope::new(hd, shape.theta, shape.linear, shape.llama3, context),
            shape,
        })
    }

    /// Bytes of the weights that a step reads.
    pub(crate) fn bytes(&self) -> usize {
        let layer = |layer: &Layer| {
            layer.qkv.bytes() + layer.out.bytes() + layer.gate_up.bytes() + layer.down.bytes()
        };
        self.layers.iter().map(layer).sum::<usize>() + self.head.as_ref().unwrap_or(&self.embed).bytes()
    }

    /// Takes every segment one step on, with one pass over the weights.
    pub(crate) fn forward(&self, team: &Team, segments: &mut [Segment<'_>], scratch: &mut Scratch) {
        let LlamaShape { hidden, inner, heads, kv_heads, head_dim: hd, eps, .. } = self.shape;
        let Scratch { inputs, state, normed, qkv, attended, change, gate_up, inner: hid, logits } = scratch;
        let of = Heads { queries: heads, kv: kv_heads, dim: hd };
        // Of every row its segment, and how many tokens it sees.
        let mut rows = Vec::new();
        for (number, segment) in segments.iter_mut().enumerate() {
            let first = segment.cache.len();
            rows.extend((first..first + segment.tokens.len()).map(|position| (number, position + 1)));
            segment.cache.extend(segment.tokens.len());
        }
        let count = rows.len();
        for buffer in [&mut *state, &mut *change] {
            buffer.resize(count * hidden, 0.0);
        }
        qkv.resize(count * (heads + 2 * kv_heads) * hd, 0.0);
        attended.resize(count * heads * hd, 0.0);
        gate_up.resize(count * 2 * inner, 0.0);
        let tokens = segments.iter().flat_map(|segment| segment.tokens);
        for (state, token) in state.chunks_exact_mut(hidden).zip(tokens) {
            self.embed.widen_row(*token as usize, state);
        }
        for (number, layer) in self.layers.iter().enumerate() {
            math::rms_norm(team, state, &layer.norm, eps, normed);
            product(team, normed, &layer.qkv, qkv, inputs);
            math::add_bias(team, qkv, &layer.qkv_bias);
            for (row, (segment, seen)) in qkv.chunks_exact_mut((heads + 2 * kv_heads) * hd).zip(&rows) {
                let position = seen - 1;
                let (q, kv) = row.split_at_mut(heads * hd);
                let (k, v) = kv.split_at_mut(kv_heads * hd);
                for (heads, norm) in [(&mut *q, &layer.q_norm), (&mut *k, &layer.k_norm)] {
                    if !norm.is_empty() {
                        math::rms_norm_in_place(heads, norm, eps);
                    }
                    self.rope.rotate(heads, position);
                }
                segments[*segment].cache.write(number, position, k, v);
            }
            let segments = &*segments;
            attend(team, of, number, &rows, |segment| &*segments[segment].cache, qkv, attended);
            product(team, attended, &layer.out, change, inputs);
            math::add_bias(team, change, &layer.out_bias);
            math::add(team, state, change);
            math::rms_norm(team, state, &layer.mlp_norm, eps, normed);
            product(team, normed, &layer.gate_up, gate_up, inputs);
            math::add_bias(team, gate_up, &layer.gate_up_bias);
            math::swiglu(team, gate_up, inner, hid);
            product(team, hid, &layer.down, change, inputs);
            math::add_bias(team, change, &layer.down_bias);
            math::add(team, state, change);
        }
        // Only what is wanted goes through the largest matrix.
        let mut wanted = Vec::new();
        let mut end = 0;
        for segment in &*segments {
            end += segment.tokens.len();
            wanted.extend_from_slice(&state[(end - segment.logits) * hidden..end * hidden]);
        }
        math::rms_norm_in_place(&mut wanted, &self.norm, eps);
        logits.resize(wanted.len() / hidden * self.shape.vocab, 0.0);
        product(team, &wanted, self.head.as_ref().unwrap_or(&self.embed), logits, inputs);
    }
}
