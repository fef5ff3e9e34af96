//! Networks by [ONNX Runtime](https://onnxruntime.ai), whose library is loaded when the first one needs it.

use std::sync::{Arc, OnceLock};

use ndarray::{ArrayD, IxDyn};
use ort::environment::Environment;
use ort::logging::LogLevel;
use ort::session::builder::PrepackedWeights;
use ort::session::{Session, SessionInputValue};
use ort::value::{Tensor, TensorElementType, Value as OrtValue, ValueType};
use parking_lot::Mutex;

use crate::onnx::error::Reason;
use crate::onnx::ops::{MAX_ELEMENTS, Operator, need};
use crate::onnx::value::Value;

/// Where the library is, if not where libraries are looked for; the name is ONNX Runtime's users' own.
const PATH: &str = "ORT_DYLIB_PATH";
const LIBRARY: &str = "libonnxruntime.so";

/// A network. A session runs one request at a time, so there are as many as have been needed at once; they share the weights that were laid out
/// for the machine.
pub(super) struct Net {
    model: Arc<[u8]>,
    weights: PrepackedWeights,
    idle: Mutex<Vec<Session>>,
    inputs: Vec<TensorElementType>,
}

/// The library, once it is loaded, or why it cannot be.
fn environment() -> Result<&'static Environment, Reason> {
    static LOADED: OnceLock<Result<Environment, Reason>> = OnceLock::new();
    let loaded = LOADED.get_or_init(|| {
        let path = std::env::var(PATH).unwrap_or_else(|_| LIBRARY.to_owned());
        let hint = |error: &dyn std::fmt::Display| {
            format!("its library cannot be loaded ({error}): install it, or say with {PATH} where it is")
        };
        let builder = ort::init_from(&path).map_err(|error| hint(&error))?;
        let builder = builder.with_name("air-serve").with_telemetry(false).with_logger(Arc::new(log));
        builder.build().map_err(|error| hint(&error))
    });
    loaded.as_ref().map_err(Clone::clone)
}

/// The runtime's own lines, among ours. What goes wrong with a request is told to who asked, so that is not news.
fn log(level: LogLevel, category: &str, _id: &str, location: &str, message: &str) {
    match level {
        LogLevel::Fatal => tracing::error!(category, location, "{message}"),
        LogLevel::Error | LogLevel::Warning => tracing::debug!(category, location, "{message}"),
        LogLevel::Info | LogLevel::Verbose => tracing::trace!(category, location, "{message}"),
    }
}

fn said(error: impl std::fmt::Display) -> Reason {
    error.to_string()
}

impl Net {
    /// Makes a first session of a model file.
    pub(super) fn load(bytes: &[u8]) -> Result<Net, Reason> {
        environment()?;
        let mut net = Net {
            model: bytes.into(),
            weights: PrepackedWeights::new(),
            idle: Mutex::default(),
            inputs: Vec::new(),
        };
        let session = net.session()?;
        net.inputs = session
            .inputs()
            .iter()
            .map(|input| match input.dtype() {
                ValueType::Tensor { ty, .. } => Ok(*ty),
                other => Err(format!("the input `{}` is {other}, which is not supported", input.name())),
            })
            .collect::<Result<_, _>>()?;
        net.idle.get_mut().push(session);
        Ok(net)
    }

    fn session(&self) -> Result<Session, Reason> {
        let builder = Session::builder(environment()?).map_err(said)?;
        let builder = builder.with_prepacked_weights(&self.weights).map_err(said)?;
        // An idle server does not spin.
        let mut builder = builder.with_intra_op_spinning(false).map_err(said)?;
        builder.commit_from_memory(&self.model).map_err(said)
    }
}

impl Operator for Net {
    fn run(&self, inputs: &[Option<&Value>]) -> Result<Vec<Value>, Reason> {
        let values = self.inputs.iter().enumerate();
        let values = values.map(|(index, kind)| input(need(inputs, index)?, *kind));
        let values = values.collect::<Result<Vec<SessionInputValue<'_>>, _>>()?;
        let idle = self.idle.lock().pop();
        let mut session = idle.map_or_else(|| self.session(), Ok)?;
        let made = session.run(values.as_slice()).map_err(said).and_then(|outputs| {
            outputs
                .iter()
                .map(|(name, output)| value(&output).map_err(|reason| format!("`{name}`: {reason}")))
                .collect()
        });
        self.idle.lock().push(session);
        made
    }
}

fn input(value: &Value, kind: TensorElementType) -> Result<SessionInputValue<'static>, Reason> {
    fn tensor<T>(array: &ArrayD<T>) -> Result<SessionInputValue<'static>, Reason>
    where
        T: ort::value::PrimitiveTensorElementType + Clone + std::fmt::Debug + 'static,
    {
        let parts = (array.shape().to_vec(), array.iter().cloned().collect::<Vec<T>>());
        Ok(Tensor::from_array(parts).map_err(said)?.into())
    }
    match (value, kind) {
        (Value::F32(array), _) => tensor(array),
        (Value::F64(array), _) => tensor(array),
        (Value::I64(array), TensorElementType::Int32) => tensor(&array.mapv(|x| x as i32)),
        (Value::I64(array), _) => tensor(array),
        (Value::Bool(array), _) => tensor(array),
        (Value::Text(array), _) => {
            let texts: Arc<[String]> = array.iter().map(ToString::to_string).collect();
            Ok(Tensor::from_string_array((array.shape().to_vec(), texts)).map_err(said)?.into())
        }
        (Value::Maps { .. }, _) => Err(format!("it takes no {}", value.type_name())),
    }
}

fn value(output: &OrtValue) -> Result<Value, Reason> {
    fn shaped<T>(shape: &[i64], data: Vec<T>) -> Result<ArrayD<T>, Reason> {
        let shape: Vec<usize> =
            shape.iter().map(|&dim| usize::try_from(dim)).collect::<Result<_, _>>().map_err(said)?;
        ArrayD::from_shape_vec(IxDyn(&shape), data).map_err(said)
    }
    fn array<T, U>(output: &OrtValue, element: fn(T) -> U) -> Result<ArrayD<U>, Reason>
    where
        T: ort::value::PrimitiveTensorElementType + Copy,
    {
        let (shape, data) = output.try_extract_tensor::<T>().map_err(said)?;
        if data.len() > MAX_ELEMENTS {
            return Err(format!("{} elements are more than the limit of {MAX_ELEMENTS}", data.len()));
        }
        shaped(shape, data.iter().copied().map(element).collect())
    }
    let ValueType::Tensor { ty, .. } = output.dtype() else {
        return Err(format!("{} cannot be answered", output.dtype()));
    };
    Ok(match ty {
        TensorElementType::Float32 => Value::F32(array(output, |x: f32| x)?),
        TensorElementType::Float64 => Value::F64(array(output, |x: f64| x)?),
        TensorElementType::Int64 => Value::I64(array(output, |x: i64| x)?),
        TensorElementType::Int32 => Value::I64(array(output, |x: i32| i64::from(x))?),
        TensorElementType::Bool => Value::Bool(array(output, |x: bool| x)?),
        TensorElementType::String => {
            let (shape, texts) = output.try_extract_strings().map_err(said)?;
            Value::Text(shaped(shape, texts.into_iter().map(Arc::from).collect())?)
        }
        other => return Err(format!("{other} cannot be answered")),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn load(name: &str) -> Option<Net> {
        if let Err(reason) = environment() {
            println!("not checked: {reason}");
            return None;
        }
        let file =
            [env!("CARGO_MANIFEST_DIR"), "tests/fixtures", name].iter().collect::<std::path::PathBuf>();
        Some(Net::load(&std::fs::read(file).unwrap()).unwrap())
    }

    #[test]
    fn replicas_share_a_network_and_get_a_session_each() {
        let Some(net) = load("net_conv.onnx") else { return };
        let image = Value::F32(ArrayD::from_elem(IxDyn(&[2, 1, 8, 8]), 0.5));
        let first = net.run(&[Some(&image)]).unwrap();
        assert_eq!(first[0].shape(), [2, 3]);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| assert_eq!(net.run(&[Some(&image)]).unwrap(), first));
            }
        });
        assert!((1..=5).contains(&net.idle.lock().len()));
    }

    #[test]
    fn texts_numbers_and_truths_go_in_and_come_out() {
        let Some(net) = load("pipe_ordinal.onnx") else { return };
        let column = |text: &str| Value::Text(ArrayD::from_elem(IxDyn(&[1, 1]), Arc::from(text)));
        let width = Value::F32(ArrayD::from_elem(IxDyn(&[1, 1]), 5.0));
        let made = net.run(&[Some(&width), Some(&column("short")), Some(&column("red"))]).unwrap();
        assert!(
            matches!((&made[0], &made[1]), (Value::I64(_), Value::F32(scores)) if scores.shape() == [1, 3])
        );
        // What does not fit is told by the runtime, and its session lives on.
        assert!(net.run(&[Some(&width), Some(&width), Some(&width)]).is_err());
        assert_eq!(net.idle.lock().len(), 1);
    }

    #[test]
    fn what_is_no_model_is_told() {
        if environment().is_ok() {
            assert!(Net::load(b"no model").err().unwrap().to_lowercase().contains("protobuf"));
        }
    }
}
