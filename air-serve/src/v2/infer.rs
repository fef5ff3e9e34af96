//! An inference request and its answer, as REST writes them: JSON, with binary data behind it where a tensor asks for that.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::datatype::DataType;
use super::elements::{self, Flat};
use super::fault::Fault;
use super::signature::{Signature, shortened};
use super::tensor::Tensor;
use crate::deploy::context::Terms;
use crate::http::model_id;

/// A request without the way it came.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Inference {
    pub id: Option<String>,
    pub inputs: Vec<Tensor>,
    /// The outputs to give, in order; all where there are none.
    pub outputs: Vec<Wanted>,
    /// Whether outputs that do not say are given as binary data.
    pub is_binary: bool,
    /// How long it may take, where it says.
    pub timeout: Option<Duration>,
    /// From 1, which goes first; 0 says nothing.
    pub priority: u8,
    /// Which model of a multiplexed deployment.
    pub model: Option<Arc<str>>,
}

/// An output that is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub name: String,
    pub is_binary: Option<bool>,
}

#[derive(Deserialize)]
struct Request<'a> {
    id: Option<String>,
    #[serde(default)]
    parameters: Parameters,
    #[serde(borrow)]
    inputs: Vec<Input<'a>>,
    #[serde(default)]
    outputs: Vec<Output>,
}

#[derive(Deserialize)]
struct Input<'a> {
    name: String,
    shape: Vec<usize>,
    #[serde(borrow)]
    datatype: Cow<'a, str>,
    #[serde(default)]
    parameters: Parameters,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Output {
    name: String,
    #[serde(default)]
    parameters: Parameters,
}

/// Parameters of a request or a tensor. Those nobody knows are ignored, as the protocol has it.
#[derive(Default, Deserialize)]
#[serde(transparent)]
struct Parameters(Option<Map<String, Value>>);

impl Parameters {
    fn get(&self, name: &str) -> Option<&Value> {
        self.0.as_ref()?.get(name)
    }

    fn flag(&self, name: &str) -> Result<Option<bool>, Fault> {
        let wrong =
            |value| Fault::malformed(format!("the parameter {name} is {value}, it must be true or false"));
        self.get(name).map(|value| value.as_bool().ok_or_else(|| wrong(value))).transpose()
    }

    fn number(&self, name: &str) -> Result<Option<u64>, Fault> {
        let wrong =
            |value| Fault::malformed(format!("the parameter {name} is {value}, it must be a whole number"));
        self.get(name).map(|value| value.as_u64().ok_or_else(|| wrong(value))).transpose()
    }
}

/// Parameters of extensions that change what the data means, and that this server does not have.
pub(crate) const FOREIGN: [&str; 2] = ["shared_memory_region", "classification"];

pub(crate) fn foreign(name: &str, tensor: &str) -> Fault {
    Fault::malformed(format!(
        "tensor `{}` has the parameter {name}, which is not supported",
        shortened(tensor)
    ))
}

impl Inference {
    /// What it asks for beside its answer.
    pub(crate) fn terms(&self) -> Terms {
        Terms { limit: self.timeout, priority: self.priority, model: self.model.clone(), fitted: true }
    }

    /// Takes what headers ask for, where the request itself says nothing.
    pub(crate) fn or(mut self, headers: Option<Terms>) -> Inference {
        let Some(terms) = headers else { return self };
        self.timeout = self.timeout.or(terms.limit);
        self.priority = if self.priority == 0 { terms.priority } else { self.priority };
        self.model = self.model.or(terms.model);
        self
    }

    /// Reads a body; the first `header` bytes of it are JSON, or all.
    pub(crate) fn read(body: &Bytes, header: Option<usize>) -> Result<Inference, Fault> {
        let header = header.unwrap_or(body.len());
        if header > body.len() {
            return Err(Fault::malformed(format!(
                "Inference-Header-Content-Length is {header}, the body has {} bytes",
                body.len()
            )));
        }
        let request: Request<'_> =
            serde_json::from_slice(&body[..header]).map_err(|error| not_a_request(header, &error))?;
        let mut binary = body.slice(header..);
        let mut inputs = Vec::with_capacity(request.inputs.len());
        for input in request.inputs {
            inputs.push(input.read(&mut binary)?);
        }
        if !binary.is_empty() {
            return Err(Fault::malformed(format!(
                "no input takes the last {} bytes of the body",
                binary.len()
            )));
        }
        let mut outputs = Vec::with_capacity(request.outputs.len());
        for output in request.outputs {
            if let Some(name) = FOREIGN.into_iter().find(|name| output.parameters.get(name).is_some()) {
                return Err(foreign(name, &output.name));
            }
            outputs.push(Wanted { is_binary: output.parameters.flag("binary_data")?, name: output.name });
        }
        Ok(Inference {
            id: request.id,
            inputs,
            outputs,
            is_binary: request.parameters.flag("binary_data_output")?.unwrap_or(false),
            timeout: timeout(request.parameters.number("timeout")?),
            priority: priority(request.parameters.number("priority")?),
            model: request.parameters.get(MODEL).map(|id| model(id.as_str())).transpose()?,
        })
    }
}

/// The parameter `timeout`, in microseconds; 0 is none.
pub(crate) fn timeout(micros: Option<u64>) -> Option<Duration> {
    micros.filter(|&micros| micros > 0).map(Duration::from_micros)
}

/// The parameter `priority`; 0 is none, and beyond what anybody has is the last.
pub(crate) fn priority(level: Option<u64>) -> u8 {
    u8::try_from(level.unwrap_or(0)).unwrap_or(u8::MAX)
}

/// The parameter that says which model of a multiplexed deployment is meant.
pub(crate) const MODEL: &str = "serve_multiplexed_model_id";

/// Its value.
pub(crate) fn model(id: Option<&str>) -> Result<Arc<str>, Fault> {
    let id = id.ok_or_else(|| Fault::malformed(format!("the parameter {MODEL} must be a string")))?;
    model_id(id).map_err(Fault::malformed)
}

fn not_a_request(length: usize, error: &serde_json::Error) -> Fault {
    if length == 0 {
        return Fault::malformed("the request has no body, expected JSON with `inputs`");
    }
    match error.classify() {
        serde_json::error::Category::Data => Fault::unfit(format!("the request does not fit: {error}")),
        _ => Fault::malformed(format!("the body is not JSON: {error}")),
    }
}

impl Input<'_> {
    /// Reads the tensor: from its JSON, or from the front of what is left of the binary data.
    fn read(self, binary: &mut Bytes) -> Result<Tensor, Fault> {
        let Input { name, shape, datatype, parameters, data } = self;
        let fault = |reason: String| Fault::unfit(format!("input `{}`: {reason}", shortened(&name)));
        let datatype = DataType::from_name(&datatype)
            .ok_or_else(|| fault(format!("`{}` is no datatype of the protocol", shortened(&datatype))))?;
        if parameters.get(FOREIGN[0]).is_some() {
            return Err(foreign(FOREIGN[0], &name));
        }
        let data = match (data, parameters.number("binary_data_size")?) {
            (Some(json), None) => elements::read(json.get(), datatype, &shape).map_err(fault)?.freeze(),
            (None, Some(size)) => {
                let left = binary.len();
                let Some(size) = usize::try_from(size).ok().filter(|&size| size <= left) else {
                    let name = shortened(&name);
                    let message = format!(
                        "input `{name}`: binary_data_size is {size}, {left} bytes are left of the body"
                    );
                    return Err(Fault::malformed(message));
                };
                binary.split_to(size)
            }
            (Some(_), Some(_)) => return Err(fault("it has both data and binary_data_size".to_owned())),
            (None, None) => return Err(fault("it has neither data nor binary_data_size".to_owned())),
        };
        Ok(Tensor::from_bytes(name, datatype, shape, data)?)
    }
}

/// Which outputs to give, in order: those that are asked for, or all.
pub(crate) fn select(
    signature: &Signature,
    wanted: &[Wanted],
    outputs: Vec<Tensor>,
) -> Result<Vec<Tensor>, Fault> {
    if wanted.is_empty() {
        return Ok(outputs);
    }
    let find = |wanted: &Wanted| -> Result<Tensor, Fault> {
        let found = outputs.iter().find(|output| output.name() == wanted.name);
        found.cloned().ok_or_else(|| unknown_output(signature, &wanted.name))
    };
    wanted.iter().map(find).collect()
}

/// Checks the names of the outputs before the model is called.
pub(crate) fn check_outputs(signature: &Signature, wanted: &[Wanted]) -> Result<(), Fault> {
    // More than there are would multiply the answer.
    if wanted.len() > signature.outputs().len() {
        let (asked, has) = (wanted.len(), signature.outputs().len());
        return Err(Fault::unfit(format!("the request asks for {asked} outputs, the model has {has}")));
    }
    let unknown =
        wanted.iter().find(|wanted| !signature.outputs().iter().any(|output| output.name == wanted.name));
    unknown.map_or(Ok(()), |wanted| Err(unknown_output(signature, &wanted.name)))
}

fn unknown_output(signature: &Signature, name: &str) -> Fault {
    let names: Vec<_> = signature.outputs().iter().map(|output| format!("`{}`", output.name)).collect();
    Fault::unfit(format!("expected the outputs {}, got `{}`", names.join(", "), shortened(name)))
}

#[derive(Serialize)]
struct Response<'a> {
    model_name: &'a str,
    model_version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    outputs: Vec<OutputTensor<'a>>,
}

#[derive(Serialize)]
struct OutputTensor<'a> {
    name: &'a str,
    datatype: DataType,
    shape: &'a [usize],
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<BinarySize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Flat<'a>>,
}

#[derive(Serialize)]
struct BinarySize {
    binary_data_size: usize,
}

/// The body of an answer, and the length of the JSON at its front if there is more behind it.
pub(crate) fn write(
    (model, version): (&str, &str),
    request: &Inference,
    outputs: &[Tensor],
) -> Result<(Vec<u8>, Option<usize>), Fault> {
    let is_binary = |output: &Tensor| {
        let wanted = request.outputs.iter().find(|wanted| wanted.name == output.name());
        wanted.and_then(|wanted| wanted.is_binary).unwrap_or(request.is_binary)
    };
    let tensor = |output| {
        let binary = is_binary(output);
        OutputTensor {
            name: output.name(),
            datatype: output.datatype(),
            shape: output.shape(),
            parameters: binary.then(|| BinarySize { binary_data_size: output.bytes().len() }),
            data: (!binary).then_some(Flat(output)),
        }
    };
    let response = Response {
        model_name: model,
        model_version: version,
        id: request.id.as_deref(),
        outputs: outputs.iter().map(tensor).collect(),
    };
    let mut body = serde_json::to_vec(&response)
        .map_err(|error| Fault::unfit(format!("the answer cannot be written as JSON: {error}")))?;
    let header = body.len();
    let mut binary = outputs.iter().filter(|output| is_binary(output)).peekable();
    if binary.peek().is_none() {
        return Ok((body, None));
    }
    binary.for_each(|output| body.extend_from_slice(output.bytes()));
    Ok((body, Some(header)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::v2::fault::Kind;

    fn read(json: &str, binary: &[u8]) -> Result<Inference, Fault> {
        Inference::read(&Bytes::from([json.as_bytes(), binary].concat()), Some(json.len()))
    }

    #[test]
    fn json_and_binary_inputs_stand_side_by_side() {
        let json = r#"{"id": "7", "parameters": {"timeout": 1500, "unknown": [1]}, "extra": null, "inputs": [
            {"name": "a", "datatype": "FP32", "shape": [1, 2], "parameters": {"binary_data_size": 8}},
            {"name": "b", "datatype": "INT8", "shape": [2], "data": [1, 2]},
            {"name": "c", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 5}}],
            "outputs": [{"name": "y", "parameters": {"binary_data": true}}, {"name": "z"}]}"#;
        let binary = [&1.0f32.to_le_bytes()[..], &2.0f32.to_le_bytes(), &[1, 0, 0, 0, 0xff]].concat();
        let request = read(json, &binary).unwrap();
        let wanted = |name: &str, is_binary| Wanted { name: name.to_owned(), is_binary };
        assert_eq!(
            request,
            Inference {
                id: Some("7".to_owned()),
                inputs: vec![
                    Tensor::new("a", [1, 2], &[1.0f32, 2.0]).unwrap(),
                    Tensor::new("b", [2], &[1i8, 2]).unwrap(),
                    Tensor::of_strings("c", [1], [[0xff]]).unwrap(),
                ],
                outputs: vec![wanted("y", Some(true)), wanted("z", None)],
                is_binary: false,
                timeout: Some(Duration::from_micros(1500)),
                priority: 0,
                model: None,
            }
        );
    }

    #[test]
    fn a_request_that_is_wrong_is_told_where() {
        let input = |rest: &str| format!(r#"{{"inputs": [{{"name": "a", "shape": [1], {rest}}}]}}"#);
        for (json, binary, kind, says) in [
            (String::new(), &b""[..], Kind::Malformed, "no body"),
            ("{".to_owned(), b"", Kind::Malformed, "not JSON"),
            ("{}".to_owned(), b"", Kind::Unfit, "missing field `inputs`"),
            (input(r#""datatype": "FP99", "data": [1]"#), b"", Kind::Unfit, "`FP99` is no datatype"),
            (input(r#""datatype": "FP32""#), b"", Kind::Unfit, "neither data nor binary_data_size"),
            (
                input(r#""datatype": "FP32", "data": [1, 2]"#),
                b"",
                Kind::Unfit,
                "input `a`: its shape [1] has 1 elements",
            ),
            (input(r#""datatype": "INT8", "data": [1]"#), b"x", Kind::Malformed, "the last 1 bytes"),
            (
                input(r#""datatype": "INT8", "parameters": {"binary_data_size": 2}"#),
                b"x",
                Kind::Malformed,
                "1 bytes are left",
            ),
            (
                input(r#""datatype": "INT8", "parameters": {"binary_data_size": 2}"#),
                b"xy",
                Kind::Unfit,
                "it has 2 bytes",
            ),
            (
                input(r#""datatype": "INT8", "parameters": {"binary_data_size": -2}"#),
                b"",
                Kind::Malformed,
                "is -2",
            ),
            (
                input(r#""datatype": "INT8", "parameters": {"shared_memory_region": "r"}"#),
                b"",
                Kind::Malformed,
                "shared_memory_region",
            ),
            (
                input(r#""datatype": "INT8", "data": [1], "parameters": {"binary_data_size": 1}"#),
                b"x",
                Kind::Unfit,
                "both",
            ),
            (
                r#"{"inputs": [], "outputs": [{"name": "y", "parameters": {"classification": 2}}]}"#
                    .to_owned(),
                b"",
                Kind::Malformed,
                "classification",
            ),
            (
                r#"{"inputs": [{"name": "a", "shape": [-1], "datatype": "INT8", "data": []}]}"#.to_owned(),
                b"",
                Kind::Unfit,
                "-1",
            ),
        ] {
            let fault = read(&json, binary).unwrap_err();
            assert_eq!(fault.kind, kind, "{json}: {fault:?}");
            assert!(fault.message.contains(says), "{json}: {fault:?}");
        }
        let fault = Inference::read(&Bytes::from_static(b"{}"), Some(3)).unwrap_err();
        assert!(fault.message.contains("is 3, the body has 2 bytes"), "{fault:?}");
    }

    #[test]
    fn the_answer_has_the_binary_outputs_behind_the_json() {
        let outputs =
            [Tensor::new("y", [1], &[258i16]).unwrap(), Tensor::new("z", [2], &[true, false]).unwrap()];
        let mut request = Inference { id: Some("7".to_owned()), ..Inference::default() };
        let (body, header) = write(("m", "1"), &request, &outputs).unwrap();
        assert_eq!(header, None);
        assert_eq!(
            String::from_utf8(body).unwrap(),
            r#"{"model_name":"m","model_version":"1","id":"7","outputs":[{"name":"y","datatype":"INT16","shape":[1],"data":[258]},{"name":"z","datatype":"BOOL","shape":[2],"data":[true,false]}]}"#
        );
        request.id = None;
        request.outputs = vec![Wanted { name: "y".to_owned(), is_binary: Some(true) }];
        let (body, header) = write(("m", "1"), &request, &outputs).unwrap();
        let (json, binary) = body.split_at(header.unwrap());
        assert_eq!(binary, [2, 1]);
        assert_eq!(
            std::str::from_utf8(json).unwrap(),
            r#"{"model_name":"m","model_version":"1","outputs":[{"name":"y","datatype":"INT16","shape":[1],"parameters":{"binary_data_size":2}},{"name":"z","datatype":"BOOL","shape":[2],"data":[true,false]}]}"#
        );
    }
}
