//! A walk over the wire format of protocol buffers before anything is decoded: of ONNX files and of inference requests.
//!
//! `prost` reports what is wrong but not where, and decodes one-byte empty messages into structs of hundreds
//! of bytes. The walk checks every length against its parent, names the offset of the first fault, and bounds the
//! memory that decoding may take in proportion to the size of the input.

use std::fmt;

/// What is wrong and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Offset in bytes from the start.
    pub offset: usize,
    pub reason: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.reason, self.offset)
    }
}

/// The messages that `onnx/proto.rs` and `v2/grpc/messages.rs` declare; everything else is a leaf to this walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An `onnx.ModelProto`.
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    ValueInfo,
    Type,
    TensorType,
    Shape,
    Dim,
    OperatorSet,
    /// An `inference.ModelInferRequest`.
    InferRequest,
    InferTensor,
    InferOutput,
    InferContents,
    /// A parameter with its name.
    Parameter,
    /// A message with no other in it.
    Plain,
}

impl Kind {
    fn child(self, field: u64) -> Option<Kind> {
        Some(match (self, field) {
            (Kind::Model, 7) => Kind::Graph,
            (Kind::Model, 8) => Kind::OperatorSet,
            (Kind::Graph, 1) => Kind::Node,
            (Kind::Graph | Kind::Attribute, 5) => Kind::Tensor,
            (Kind::Graph, 11 | 12) => Kind::ValueInfo,
            (Kind::Node, 5) => Kind::Attribute,
            (Kind::ValueInfo, 2) => Kind::Type,
            (Kind::Type, 1) => Kind::TensorType,
            (Kind::TensorType, 2) => Kind::Shape,
            (Kind::Shape, 1) => Kind::Dim,
            (Kind::InferRequest, 5) => Kind::InferTensor,
            (Kind::InferRequest, 6) => Kind::InferOutput,
            (Kind::InferRequest | Kind::InferTensor, 4) | (Kind::InferOutput, 2) => Kind::Parameter,
            (Kind::InferTensor, 5) => Kind::InferContents,
            _ => return None,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Kind::Model => "the model",
            Kind::Graph => "the graph",
            Kind::Node => "a node",
            Kind::Attribute => "an attribute",
            Kind::Tensor | Kind::InferTensor => "a tensor",
            Kind::ValueInfo => "a value's description",
            Kind::Type => "a type",
            Kind::TensorType => "a tensor type",
            Kind::Shape => "a shape",
            Kind::Dim => "a dimension",
            Kind::OperatorSet => "an operator set",
            Kind::InferRequest => "the request",
            Kind::InferOutput => "an output",
            Kind::InferContents => "the contents of a tensor",
            Kind::Parameter => "a parameter",
            Kind::Plain => "the message",
        }
    }
}

/// Decoding may take this much memory, plus `BYTES_PER_BYTE` times the input.
const BASE_BYTES: usize = 16 << 20;
/// Honest files stay below 8: an unpacked `int64` of two bytes becomes eight.
const BYTES_PER_BYTE: usize = 16;
/// A decoded message, with its `Vec` slot at worst-case growth.
const MESSAGE_BYTES: usize = 512;
/// A decoded string or byte field, likewise.
const LEAF_BYTES: usize = 64;

/// Walks `input` as a message of that kind.
pub(crate) fn scan(kind: Kind, input: &[u8]) -> Result<(), Fault> {
    let limit = BASE_BYTES.saturating_add(input.len().saturating_mul(BYTES_PER_BYTE));
    Walk { input, spent: 0, limit }.message(kind, 0, input.len())
}

struct Walk<'a> {
    input: &'a [u8],
    spent: usize,
    limit: usize,
}

impl Walk<'_> {
    /// Recursion is as deep as `Kind::child` allows: at most model, graph, node, attribute, tensor.
    fn message(&mut self, kind: Kind, mut at: usize, end: usize) -> Result<(), Fault> {
        self.spend(at, MESSAGE_BYTES)?;
        while at < end {
            let start = at;
            let key = self.varint(&mut at, end, kind)?;
            let field = key >> 3;
            if field == 0 {
                return Err(fault(start, format!("field number 0 inside {}", kind.name())));
            }
            match key & 7 {
                0 => {
                    self.varint(&mut at, end, kind)?;
                    self.spend(start, 16)?;
                }
                1 => self.skip(&mut at, end, 8, kind)?,
                5 => self.skip(&mut at, end, 4, kind)?,
                2 => {
                    let length = self.varint(&mut at, end, kind)?;
                    let body = at;
                    let length = usize::try_from(length).unwrap_or(usize::MAX);
                    self.skip(&mut at, end, length, kind)?;
                    match kind.child(field) {
                        Some(child) => self.message(child, body, at)?,
                        // Packed integers take at most eight bytes for each byte of theirs.
                        None => self.spend(start, LEAF_BYTES.saturating_add(length.saturating_mul(8)))?,
                    }
                }
                wire => return Err(fault(start, format!("wire type {wire} inside {}", kind.name()))),
            }
        }
        Ok(())
    }

    fn varint(&self, at: &mut usize, end: usize, kind: Kind) -> Result<u64, Fault> {
        let start = *at;
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            if *at >= end {
                return Err(self.cut(start, end, kind));
            }
            let byte = self.input[*at];
            *at += 1;
            if shift < 64 {
                value |= u64::from(byte & 0x7f) << shift;
            }
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(fault(start, format!("a number of more than ten bytes inside {}", kind.name())))
    }

    fn skip(&self, at: &mut usize, end: usize, length: usize, kind: Kind) -> Result<(), Fault> {
        match at.checked_add(length) {
            Some(next) if next <= end => {
                *at = next;
                Ok(())
            }
            _ => Err(self.cut(*at, end, kind)),
        }
    }

    fn cut(&self, at: usize, end: usize, kind: Kind) -> Fault {
        let reason = if end == self.input.len() {
            format!("it ends at byte {end}, inside {}: it is cut short", kind.name())
        } else {
            format!("a field runs past the end of {}", kind.name())
        };
        fault(at, reason)
    }

    fn spend(&mut self, at: usize, bytes: usize) -> Result<(), Fault> {
        self.spent = self.spent.saturating_add(bytes);
        if self.spent > self.limit {
            return Err(fault(at, format!("decoding would take more than {} bytes", self.limit)));
        }
        Ok(())
    }
}

fn fault(offset: usize, reason: String) -> Fault {
    Fault { offset, reason }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_empty_file_is_an_empty_model() {
        assert_eq!(scan(Kind::Model, &[]), Ok(()));
    }

    #[test]
    fn a_length_past_the_end_says_where() {
        // Field 7 (graph), 100 bytes claimed, 2 there.
        let fault = scan(Kind::Model, &[0x3a, 100, 0, 0]).unwrap_err();
        assert_eq!(fault.offset, 2);
        assert!(fault.reason.contains("cut short"), "{fault}");
    }

    #[test]
    fn a_flood_of_empty_messages_is_refused() {
        // A graph of empty nodes: two bytes each in the file, hundreds of bytes each in memory.
        let nodes = [0x0a, 0x00].repeat(4 << 20);
        let mut file = vec![0x3a];
        prost::encoding::encode_varint(nodes.len() as u64, &mut file);
        file.extend(nodes);
        let fault = scan(Kind::Model, &file).unwrap_err();
        assert!(fault.reason.contains("more than"), "{fault}");
    }

    #[test]
    fn a_flood_of_empty_inputs_or_parameters_is_refused() {
        for (kind, key) in
            [(Kind::InferRequest, 0x2a), (Kind::InferRequest, 0x32), (Kind::InferRequest, 0x22)]
        {
            let fault = scan(kind, &[key, 0].repeat(4 << 20)).unwrap_err();
            assert!(fault.reason.contains("more than"), "{fault}");
        }
    }

    #[test]
    fn an_honest_request_of_many_elements_is_not() {
        // Inputs, raw contents and packed numbers of 8 MiB.
        let long = |key: u8, body: &[u8]| {
            let mut field = vec![key];
            prost::encoding::encode_varint(body.len() as u64, &mut field);
            [field, body.to_vec()].concat()
        };
        let raw = long(0x3a, &vec![0; 8 << 20]);
        let typed = long(0x2a, &long(0x2a, &long(0x1a, &vec![1; 8 << 20])));
        assert_eq!(scan(Kind::InferRequest, &[raw, typed].concat()), Ok(()));
    }
}
