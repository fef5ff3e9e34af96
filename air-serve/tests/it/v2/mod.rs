//! The Open Inference Protocol V2.

mod fuzz;
pub mod grpc;
mod repository;
mod rest;
pub mod rpc;
mod updates;

use air_core::BoxError;
use air_serve::onnx::OnnxModel;
use air_serve::v2::{DataType, Signature, Tensor};
use air_serve::{App, Deployment, Server, each, run};

use crate::examples;

/// Iris, and a model that gives back whatever it is asked in every type of the protocol.
pub fn server() -> Server {
    run(app()).unwrap()
}

pub fn app() -> App {
    let iris = OnnxModel::load(examples("iris_gbc.onnx")).unwrap();
    let iris = iris.with_names(["setosa", "versicolor", "virginica"]).unwrap();
    App::new().with_http(|http| http.port = 0).route("/iris", Deployment::onnx("iris", iris)).deploy(echo())
}

/// The name of an input or output of the echo.
pub fn port(prefix: &str, datatype: DataType) -> String {
    format!("{prefix}_{}", datatype.name().to_lowercase())
}

fn echo() -> Deployment<impl air_serve::Model<In = Vec<Tensor>, Out = Vec<Tensor>>> {
    let signature = DataType::ALL.into_iter().fold(Signature::new(), |signature, datatype| {
        let signature = signature.input(port("in", datatype), datatype, [-1]);
        signature.output(port("out", datatype), datatype, [-1])
    });
    let back = |inputs: Vec<Tensor>| -> Result<Vec<Tensor>, BoxError> {
        let rename = |input: Tensor| {
            let name = port("out", input.datatype());
            Ok(Tensor::from_bytes(name, input.datatype(), input.shape(), input.bytes().clone())?)
        };
        inputs.into_iter().map(rename).collect()
    };
    Deployment::new("echo", move || Ok(each(back))).tensors(signature)
}
