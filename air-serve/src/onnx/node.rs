//! A node of the graph as the operators see it when they are built: attributes by name, with checked types.

use std::sync::Arc;

use super::error::{OnnxError, Reason};
use super::proto::{Attribute, Node as NodeProto, Tensor};
use super::value::{Labels, text};

/// Reads a node's attributes, once, at load time.
pub(crate) struct Node<'a> {
    proto: &'a NodeProto,
    /// Version of the operator set of the node's domain.
    pub opset: i64,
}

impl<'a> Node<'a> {
    pub(crate) fn new(proto: &'a NodeProto, opset: i64) -> Self {
        Node { proto, opset }
    }

    pub(crate) fn domain(&self) -> &'a str {
        match self.proto.domain.as_deref().unwrap_or("") {
            "ai.onnx" => "",
            domain => domain,
        }
    }

    pub(crate) fn operator(&self) -> &'a str {
        self.proto.op_type.as_deref().unwrap_or("")
    }

    /// The name for messages.
    pub(crate) fn name(&self) -> String {
        let named = self.proto.name.as_deref().filter(|name| !name.is_empty());
        named.or(self.proto.output.first().map(String::as_str)).unwrap_or("?").to_owned()
    }

    /// Domain and operator, for messages.
    pub(crate) fn full_operator(&self) -> String {
        let domain = if self.domain().is_empty() { "ai.onnx" } else { self.domain() };
        format!("{domain}.{}", self.operator())
    }

    pub(crate) fn error(&self, reason: Reason) -> OnnxError {
        OnnxError::Node { node: self.name(), operator: self.full_operator(), reason }
    }

    fn get(&self, name: &str) -> Option<&'a Attribute> {
        self.proto.attribute.iter().find(|attribute| attribute.name.as_deref() == Some(name))
    }

    pub(crate) fn int(&self, name: &str, default: i64) -> i64 {
        self.get(name).and_then(|attribute| attribute.i).unwrap_or(default)
    }

    pub(crate) fn float(&self, name: &str, default: f32) -> f32 {
        self.get(name).and_then(|attribute| attribute.f).unwrap_or(default)
    }

    pub(crate) fn scalar_int(&self, name: &str) -> Option<i64> {
        self.get(name)?.i
    }

    pub(crate) fn scalar_float(&self, name: &str) -> Option<f32> {
        self.get(name)?.f
    }

    pub(crate) fn string(&self, name: &str, default: &'a str) -> Result<&'a str, Reason> {
        match self.get(name).and_then(|attribute| attribute.s.as_deref()) {
            None => Ok(default),
            Some(bytes) => std::str::from_utf8(bytes).map_err(|_| format!("attribute {name} is not UTF-8")),
        }
    }

    /// Empty where the attribute is absent.
    pub(crate) fn ints(&self, name: &str) -> &'a [i64] {
        self.get(name).map_or(&[], |attribute| &attribute.ints)
    }

    /// Empty where the attribute is absent.
    pub(crate) fn floats(&self, name: &str) -> &'a [f32] {
        self.get(name).map_or(&[], |attribute| &attribute.floats)
    }

    /// Empty where the attribute is absent.
    pub(crate) fn strings(&self, name: &str) -> Result<Vec<Arc<str>>, Reason> {
        let Some(attribute) = self.get(name) else { return Ok(Vec::new()) };
        attribute
            .strings
            .iter()
            .map(|bytes| text(bytes).map_err(|reason| format!("attribute {name}: {reason}")))
            .collect()
    }

    pub(crate) fn tensor(&self, name: &str) -> Option<&'a Tensor> {
        self.get(name)?.t.as_ref()
    }

    /// The labels under either of two attribute names (integers, strings).
    pub(crate) fn labels(&self, ints: &str, strings: &str) -> Result<Option<Labels>, Reason> {
        let texts = self.strings(strings)?;
        if !texts.is_empty() {
            return Ok(Some(Labels::Texts(texts.into())));
        }
        let numbers = self.ints(ints);
        Ok((!numbers.is_empty()).then(|| Labels::Ints(numbers.into())))
    }
}
