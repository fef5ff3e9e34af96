//! What a kernel takes, read from text such as `by: f32, x: &f32[n, 3], y: &mut f32[n, 3], n: i64`.

use std::fmt;

use super::Scalar;
use crate::tensor::{DType, MAX_RANK};

/// A driver takes 4 KiB of arguments, 8 bytes each at most.
const MOST: usize = 512;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Signature {
    parameters: Vec<Parameter>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Parameter {
    name: String,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Scalar(Number),
    /// Without a shape, any.
    Tensor {
        dtype: DType,
        shape: Option<Vec<Axis>>,
        written: bool,
    },
}

/// The type of a number: as an element of a tensor, or what tensors have not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Number {
    Of(DType),
    U64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Axis {
    Length(usize),
    Named(String),
}

/// An argument as far as it is checked.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Shown<'a> {
    Scalar(Scalar),
    Tensor { dtype: DType, shape: &'a [usize], contiguous: bool, written: bool },
}

/// Which argument is not what it should be, and why.
type Wrong = (String, String);

impl Signature {
    pub(super) fn parse(text: &str) -> Result<Signature, String> {
        let mut parameters: Vec<Parameter> = Vec::new();
        for part in split(text) {
            let parameter = parameter(part)?;
            if parameters.iter().any(|other| other.name == parameter.name) {
                return Err(format!("two arguments are called `{}`", parameter.name));
            }
            parameters.push(parameter);
        }
        if parameters.len() > MOST {
            return Err(format!("{} arguments, at most {MOST} are supported", parameters.len()));
        }
        Ok(Signature { parameters })
    }

    /// Whether these are the arguments, each alone and all together.
    pub(super) fn check(&self, arguments: &[Shown<'_>]) -> Result<(), Wrong> {
        if arguments.len() != self.parameters.len() {
            let next = self.parameters.get(arguments.len()).map_or("", |parameter| &parameter.name);
            let (found, expected) = (arguments.len(), self.parameters.len());
            return Err((next.to_owned(), format!("{found} arguments were given, it takes {expected}")));
        }
        let mut axes = Axes::default();
        for (parameter, argument) in self.parameters.iter().zip(arguments) {
            parameter.check(argument, &mut axes).map_err(|reason| (parameter.name.clone(), reason))?;
        }
        // Lengths given as numbers, once all axes are known: they may come before the tensors.
        for (parameter, argument) in self.parameters.iter().zip(arguments) {
            if let (Kind::Scalar(kind), Shown::Scalar(scalar)) = (&parameter.kind, argument)
                && kind.is_integer()
                && let Some((length, of)) = axes.find(&parameter.name)
                && scalar.length != Some(length)
            {
                let reason = format!("is not {length}, the length of the axis of `{of}` with its name");
                return Err((parameter.name.clone(), reason));
            }
        }
        Ok(())
    }
}

/// The length of each named axis, and the argument that has it.
#[derive(Default)]
struct Axes<'a>(Vec<(&'a str, usize, &'a str)>);

impl<'a> Axes<'a> {
    fn find(&self, name: &str) -> Option<(usize, &'a str)> {
        self.0.iter().find(|(known, ..)| *known == name).map(|(_, length, of)| (*length, *of))
    }
}

impl Parameter {
    fn check<'a>(&'a self, argument: &Shown<'_>, axes: &mut Axes<'a>) -> Result<(), String> {
        match (&self.kind, argument) {
            (Kind::Scalar(kind), Shown::Scalar(scalar)) if *kind == scalar.kind => Ok(()),
            (
                Kind::Tensor { dtype, shape, written },
                Shown::Tensor { dtype: found, shape: lengths, contiguous, written: writes },
            ) => {
                if dtype != found {
                    return Err(format!("is a tensor of {found}, not of {dtype}"));
                }
                match (written, writes) {
                    (true, false) => return Err("is written, so it must be given as `&mut`".to_owned()),
                    (false, true) => return Err("is only read, so it must be given as `&`".to_owned()),
                    _ => {}
                }
                if !contiguous {
                    return Err(
                        "is not contiguous; call `contiguous()` to copy it before it goes to the device"
                            .to_owned(),
                    );
                }
                shape.as_ref().map_or(Ok(()), |shape| self.check_shape(shape, lengths, axes))
            }
            (expected, Shown::Scalar(scalar)) => Err(format!("is a {}, not {expected}", scalar.kind)),
            (expected, Shown::Tensor { dtype, .. }) => Err(format!("is a tensor of {dtype}, not {expected}")),
        }
    }

    fn check_shape<'a>(
        &'a self,
        shape: &'a [Axis],
        lengths: &[usize],
        axes: &mut Axes<'a>,
    ) -> Result<(), String> {
        if shape.len() != lengths.len() {
            return Err(format!("has shape {lengths:?}, which is not {} long", shape.len()));
        }
        for (at, (axis, &length)) in shape.iter().zip(lengths).enumerate() {
            let (expected, why) = match axis {
                Axis::Length(expected) => (*expected, String::new()),
                Axis::Named(name) => {
                    let Some((expected, of)) = axes.find(name) else {
                        axes.0.push((name, length, &self.name));
                        continue;
                    };
                    (expected, format!(", the `{name}` of `{of}`"))
                }
            };
            if length != expected {
                return Err(format!("has shape {lengths:?}, whose axis {at} is not {expected}{why}"));
            }
        }
        Ok(())
    }
}

impl Number {
    fn is_integer(self) -> bool {
        use DType::{I8, I32, I64, U8, U32};
        matches!(self, Number::U64 | Number::Of(I8 | I32 | I64 | U8 | U32))
    }
}

/// The parts between commas that are not within brackets.
fn split(text: &str) -> Vec<&str> {
    let mut depth = 0_usize;
    let parts = text.split(|c| {
        match c {
            '[' => depth += 1,
            ']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    });
    let mut parts: Vec<&str> = parts.map(str::trim).collect();
    // A comma at the end, or nothing at all.
    if parts.last().is_some_and(|last| last.is_empty()) {
        parts.pop();
    }
    parts
}

fn parameter(text: &str) -> Result<Parameter, String> {
    let wrong = || format!("`{text}` is not an argument; write `n: u64`, `x: &f32[n]` or `y: &mut f32[..]`");
    let (name, kind) = text.split_once(':').ok_or_else(wrong)?;
    let (name, kind) = (name.trim(), kind.trim());
    if !is_name(name) {
        return Err(wrong());
    }
    let Some(tensor) = kind.strip_prefix('&') else {
        let number = match kind {
            "u64" => Number::U64,
            _ => Number::Of(dtype(kind).ok_or_else(wrong)?),
        };
        return Ok(Parameter { name: name.to_owned(), kind: Kind::Scalar(number) });
    };
    let tensor = tensor.trim_start();
    let (written, tensor) = match tensor.strip_prefix("mut ") {
        Some(tensor) => (true, tensor.trim_start()),
        None => (false, tensor),
    };
    let (element, shape) = tensor.strip_suffix(']').and_then(|t| t.split_once('[')).ok_or_else(wrong)?;
    let dtype = dtype(element.trim()).ok_or_else(wrong)?;
    let shape = match shape.trim() {
        ".." => None,
        "" => Some(Vec::new()),
        axes => Some(
            axes.split(',')
                .map(|axis| self::axis(axis.trim()).ok_or_else(wrong))
                .collect::<Result<Vec<_>, _>>()?,
        ),
    };
    if shape.as_ref().is_some_and(|shape| shape.len() > MAX_RANK) {
        return Err(format!("`{text}` has more than {MAX_RANK} axes"));
    }
    Ok(Parameter { name: name.to_owned(), kind: Kind::Tensor { dtype, shape, written } })
}

fn axis(text: &str) -> Option<Axis> {
    match text.parse() {
        Ok(length) => Some(Axis::Length(length)),
        Err(_) => is_name(text).then(|| Axis::Named(text.to_owned())),
    }
}

fn dtype(name: &str) -> Option<DType> {
    DType::ALL.into_iter().find(|dtype| dtype.name() == name)
}

/// A name as C++ and Rust have them.
pub(super) fn is_name(text: &str) -> bool {
    let mut letters = text.chars();
    letters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && letters.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Number::Of(dtype) => write!(f, "{dtype}"),
            Number::U64 => f.write_str("u64"),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Kind::Tensor { dtype, shape, written } = self else {
            let Kind::Scalar(number) = self else { return Ok(()) };
            return write!(f, "{number}");
        };
        let axes = shape.as_ref().map_or("..".to_owned(), |shape| {
            let axes = shape.iter().map(|axis| match axis {
                Axis::Length(length) => length.to_string(),
                Axis::Named(name) => name.clone(),
            });
            axes.collect::<Vec<_>>().join(", ")
        });
        write!(f, "&{}{dtype}[{axes}]", if *written { "mut " } else { "" })
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, Parameter { name, kind }) in self.parameters.iter().enumerate() {
            write!(f, "{}{name}: {kind}", if at == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "signature_tests.rs"]
mod tests;
