//! Between the messages of an inference and what the protocol means by them.

use bytes::{Bytes, BytesMut};

use super::messages::{
    InferParameter, InferTensor, InferTensorContents, ModelInferRequest, ModelInferResponse, ParameterChoice,
    Parameters,
};
use crate::v2::catalog::Served;
use crate::v2::datatype::DataType;
use crate::v2::fault::Fault;
use crate::v2::infer::{self, FOREIGN, Inference, Wanted, foreign};
use crate::v2::signature::shortened;
use crate::v2::tensor::{Element, Tensor, put_all, put_string};

/// How an answer writes its tensors: as the request wrote its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Raw,
    Typed,
}

/// Reads a request.
pub(super) fn read(request: ModelInferRequest) -> Result<(Inference, Form), Fault> {
    let ModelInferRequest { id, parameters, inputs, outputs, raw_input_contents: raw, .. } = request;
    let form = if raw.is_empty() { Form::Typed } else { Form::Raw };
    if form == Form::Raw && raw.len() != inputs.len() {
        let (raw, inputs) = (raw.len(), inputs.len());
        return Err(Fault::malformed(format!("{raw} raw_input_contents for {inputs} inputs")));
    }
    let mut raw = raw.into_iter();
    let inputs: Result<Vec<Tensor>, Fault> =
        inputs.into_iter().map(|input| tensor(input, raw.next())).collect();
    let wanted = outputs.into_iter().map(|output| {
        refuse_foreign(&output.parameters, &output.name)?;
        Ok(Wanted { name: output.name, is_binary: None })
    });
    let wanted: Result<Vec<Wanted>, Fault> = wanted.collect();
    let inference = Inference {
        id: Some(id).filter(|id| !id.is_empty()),
        inputs: inputs?,
        outputs: wanted?,
        is_binary: false,
        timeout: infer::timeout(number(&parameters, "timeout")?),
        priority: infer::priority(number(&parameters, "priority")?),
        model: parameters.get(infer::MODEL).map(|id| infer::model(text(id))).transpose()?,
    };
    Ok((inference, form))
}

/// A parameter that is a whole number.
fn number(parameters: &Parameters, name: &str) -> Result<Option<u64>, Fault> {
    let Some(parameter) = parameters.get(name) else { return Ok(None) };
    let number = match parameter.parameter_choice {
        Some(ParameterChoice::Int64(number)) => u64::try_from(number).ok(),
        Some(ParameterChoice::Uint64(number)) => Some(number),
        _ => None,
    };
    number.map(Some).ok_or_else(|| Fault::malformed(format!("the parameter {name} must be a whole number")))
}

fn text(parameter: &InferParameter) -> Option<&str> {
    match &parameter.parameter_choice {
        Some(ParameterChoice::String(text)) => Some(text),
        _ => None,
    }
}

fn refuse_foreign(parameters: &Parameters, tensor: &str) -> Result<(), Fault> {
    match FOREIGN.into_iter().find(|&name| parameters.contains_key(name)) {
        Some(name) => Err(foreign(name, tensor)),
        None => Ok(()),
    }
}

fn tensor(input: InferTensor, raw: Option<Bytes>) -> Result<Tensor, Fault> {
    let InferTensor { name, datatype, shape, parameters, contents } = input;
    refuse_foreign(&parameters, &name)?;
    let fault = |reason: String| Fault::unfit(format!("input `{}`: {reason}", shortened(&name)));
    let datatype = DataType::from_name(&datatype)
        .ok_or_else(|| fault(format!("`{}` is no datatype of the protocol", shortened(&datatype))))?;
    let negative = |dim: i64| fault(format!("its shape has the dimension {dim}"));
    let shape: Result<Vec<usize>, Fault> =
        shape.into_iter().map(|dim| usize::try_from(dim).map_err(|_| negative(dim))).collect();
    let data = match (raw, contents) {
        (Some(raw), None) => raw,
        (Some(_), Some(_)) => return Err(fault("it has both contents and raw_input_contents".to_owned())),
        (None, contents) => typed(datatype, &contents.unwrap_or_default()).map_err(fault)?,
    };
    Ok(Tensor::from_bytes(name, datatype, shape?, data)?)
}

/// The binary form of typed contents.
fn typed(datatype: DataType, contents: &InferTensorContents) -> Result<Bytes, String> {
    fn all<T: Element>(elements: &[T]) -> Result<BytesMut, String> {
        Ok(put_all(elements))
    }
    /// Small integers come as larger ones.
    fn narrow<T: Element + TryFrom<U>, U: Copy + std::fmt::Display>(
        elements: &[U],
    ) -> Result<BytesMut, String> {
        let mut data = BytesMut::with_capacity(elements.len() * size_of::<T>());
        for (index, &element) in elements.iter().enumerate() {
            let narrow = T::try_from(element);
            narrow
                .map_err(|_| format!("its element {index} is {element}, which is no {}", T::DATATYPE))?
                .put(&mut data);
        }
        Ok(data)
    }
    let data = match datatype {
        DataType::Bool => all(&contents.bool_contents),
        DataType::Int8 => narrow::<i8, _>(&contents.int_contents),
        DataType::Int16 => narrow::<i16, _>(&contents.int_contents),
        DataType::Int32 => all(&contents.int_contents),
        DataType::Int64 => all(&contents.int64_contents),
        DataType::Uint8 => narrow::<u8, _>(&contents.uint_contents),
        DataType::Uint16 => narrow::<u16, _>(&contents.uint_contents),
        DataType::Uint32 => all(&contents.uint_contents),
        DataType::Uint64 => all(&contents.uint64_contents),
        DataType::Fp32 => all(&contents.fp32_contents),
        DataType::Fp64 => all(&contents.fp64_contents),
        DataType::Bytes => {
            let mut data = BytesMut::new();
            contents.bytes_contents.iter().for_each(|string| put_string(string, &mut data));
            Ok(data)
        }
        DataType::Fp16 | DataType::Bf16 => {
            Err(format!("{datatype} has no typed contents, send raw_input_contents"))
        }
    };
    Ok(data?.freeze())
}

/// Writes an answer in that form; raw where a tensor has no typed contents.
pub(super) fn write(
    served: &Served,
    request: Inference,
    form: Form,
    outputs: Vec<Tensor>,
) -> Result<ModelInferResponse, Fault> {
    let is_half = |output: &Tensor| matches!(output.datatype(), DataType::Fp16 | DataType::Bf16);
    let is_raw = form == Form::Raw || outputs.iter().any(is_half);
    let mut response = ModelInferResponse {
        model_name: served.name.to_string(),
        model_version: served.version.clone(),
        id: request.id.unwrap_or_default(),
        ..ModelInferResponse::default()
    };
    for output in outputs {
        let contents = if is_raw { None } else { Some(contents(&output)?) };
        response.outputs.push(InferTensor {
            datatype: output.datatype().name().to_owned(),
            shape: output.shape().iter().map(|&dim| dim as i64).collect(),
            parameters: Parameters::new(),
            contents,
            name: output.name().to_owned(),
        });
        if is_raw {
            response.raw_output_contents.push(output.bytes().clone());
        }
    }
    Ok(response)
}

fn contents(tensor: &Tensor) -> Result<InferTensorContents, Fault> {
    let mut contents = InferTensorContents::default();
    match tensor.datatype() {
        DataType::Bool => contents.bool_contents = tensor.elements()?,
        DataType::Int8 => contents.int_contents = widened::<i8, _>(tensor)?,
        DataType::Int16 => contents.int_contents = widened::<i16, _>(tensor)?,
        DataType::Int32 => contents.int_contents = tensor.elements()?,
        DataType::Int64 => contents.int64_contents = tensor.elements()?,
        DataType::Uint8 => contents.uint_contents = widened::<u8, _>(tensor)?,
        DataType::Uint16 => contents.uint_contents = widened::<u16, _>(tensor)?,
        DataType::Uint32 => contents.uint_contents = tensor.elements()?,
        DataType::Uint64 => contents.uint64_contents = tensor.elements()?,
        DataType::Fp32 => contents.fp32_contents = tensor.elements()?,
        DataType::Fp64 => contents.fp64_contents = tensor.elements()?,
        DataType::Bytes => contents.bytes_contents = tensor.strings()?,
        DataType::Fp16 | DataType::Bf16 => {}
    }
    Ok(contents)
}

fn widened<T: Element + Into<U>, U>(tensor: &Tensor) -> Result<Vec<U>, Fault> {
    Ok(tensor.elements::<T>()?.into_iter().map(Into::into).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use half::f16;

    use super::*;
    use crate::v2::fault::Kind;

    fn input(datatype: &str, shape: &[i64], contents: Option<InferTensorContents>) -> InferTensor {
        let (datatype, shape) = (datatype.to_owned(), shape.to_vec());
        InferTensor { name: "x".to_owned(), datatype, shape, parameters: Parameters::new(), contents }
    }

    #[test]
    fn typed_contents_and_raw_contents_are_the_same_tensors() {
        let tensors = [
            Tensor::new("x", [2], &[true, false]).unwrap(),
            Tensor::new("x", [2], &[-1i8, 1]).unwrap(),
            Tensor::new("x", [2], &[-1i16, 1]).unwrap(),
            Tensor::new("x", [2], &[-1i32, 1]).unwrap(),
            Tensor::new("x", [2], &[-1i64, 1]).unwrap(),
            Tensor::new("x", [2], &[255u8, 1]).unwrap(),
            Tensor::new("x", [2], &[65535u16, 1]).unwrap(),
            Tensor::new("x", [2], &[u32::MAX, 1]).unwrap(),
            Tensor::new("x", [2], &[u64::MAX, 1]).unwrap(),
            Tensor::new("x", [2], &[0.5f32, -1.0]).unwrap(),
            Tensor::new("x", [2], &[0.5f64, -1.0]).unwrap(),
            Tensor::of_strings("x", [2], [&b"\xff"[..], b""]).unwrap(),
        ];
        for expected in tensors {
            let name = expected.datatype().name();
            let of_typed = tensor(input(name, &[2], Some(contents(&expected).unwrap())), None).unwrap();
            let of_raw = tensor(input(name, &[2], None), Some(expected.bytes().clone())).unwrap();
            assert_eq!((&of_typed, &of_raw), (&expected, &expected));
        }
        let half = Tensor::new("x", [1], &[f16::ONE]).unwrap();
        assert_eq!(tensor(input("FP16", &[1], None), Some(half.bytes().clone())).unwrap(), half);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let ints = |elements: &[i32]| {
            Some(InferTensorContents { int_contents: elements.to_vec(), ..Default::default() })
        };
        for (input, raw, says) in [
            (input("INT8", &[1], ints(&[300])), None, "element 0 is 300, which is no INT8"),
            (input("INT8", &[2], ints(&[3])), None, "it has 1 bytes"),
            (input("INT8", &[-1], ints(&[3])), None, "its shape has the dimension -1"),
            (input("int", &[1], ints(&[3])), None, "`int` is no datatype"),
            (input("FP32", &[1], ints(&[3])), None, "it has 0 bytes"),
            (input("FP16", &[1], None), None, "send raw_input_contents"),
            (input("INT8", &[1], ints(&[3])), Some(Bytes::from_static(b"x")), "both"),
            (input("INT16", &[1], None), Some(Bytes::from_static(b"x")), "it has 1 bytes"),
        ] {
            let fault = tensor(input, raw).unwrap_err();
            assert_eq!(fault.kind, Kind::Unfit);
            assert!(fault.message.contains(says), "{says}: {fault:?}");
        }
        let request = ModelInferRequest { raw_input_contents: vec![Bytes::new()], ..Default::default() };
        assert!(read(request).unwrap_err().message.contains("1 raw_input_contents for 0 inputs"));
    }
}
