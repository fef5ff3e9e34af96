//! The Open Inference Protocol, version 2 (KServe's, Triton's): models by name, requests and answers as named tensors.
//!
//! | file | idea |
//! |---|---|
//! | `datatype`, `tensor` | an element type; a tensor as it travels |
//! | `signature` | what a model takes and gives; from tensors to what it is called with |
//! | `fault` | what can go wrong, for REST and for gRPC |
//! | `reach` | how a version of a deployment is reached |
//! | `catalog` | the models that can be reached |
//! | `elements`, `infer` | requests and answers as JSON, with binary data behind it |
//! | `rest` | paths and status codes |
//! | `grpc` | the same over gRPC, with health and reflection |
//! | `repository` | a directory of models that come and go |
//!
//! Whatever way a request comes, its tensors are read into the binary form of the protocol, checked against the signature of the version that is to
//! answer, and queued as one request of the deployment, however many rows they have.

mod catalog;
mod datatype;
mod elements;
mod fault;
pub(crate) mod grpc;
mod infer;
mod reach;
mod repository;
mod rest;
mod signature;
mod tensor;

use std::sync::Arc;

use tokio::sync::watch;

pub use datatype::DataType;
pub use signature::{Signature, TensorCodec, TensorSpec};
pub use tensor::{Element, Tensor, TensorError};

pub(crate) use catalog::{Catalog, Served};
pub(crate) use reach::Reach;
pub(crate) use repository::Repository;
pub(crate) use rest::owns;

use self::fault::{Fault, Kind};
use crate::deploy::Deployment;
use crate::http::Phase;
use crate::metrics::RouteMetrics;
use crate::model::Model;
use crate::stream::Items;

/// The protocol as the HTTP front sees it.
pub(crate) struct V2 {
    pub catalog: Arc<Catalog>,
    /// Where models can be loaded from, if anywhere.
    pub repository: Option<Arc<Repository>>,
    /// Why the server should get no traffic now, if so.
    pub unready: Arc<dyn Fn() -> Option<String> + Send + Sync>,
    /// Tells when the server ends.
    pub phase: watch::Receiver<Phase>,
    pub rest: RouteMetrics,
    pub grpc: RouteMetrics,
}

impl V2 {
    /// The extensions of the protocol that this server has.
    fn extensions(&self) -> Vec<&'static str> {
        let mut extensions = vec!["binary_tensor_data", "schedule_policy"];
        extensions.extend(self.repository.is_some().then_some("model_repository"));
        extensions
    }

    fn repository(&self) -> Result<&Arc<Repository>, Fault> {
        let none = || {
            Fault::new(Kind::Refused, "this server has no model repository: start it with --repository DIR")
        };
        self.repository.as_ref().ok_or_else(none)
    }

    /// The model, if it can answer.
    fn ready(&self, name: &str, version: Option<&str>) -> Result<Arc<Served>, Fault> {
        let served = self.catalog.find(name, version)?;
        if served.is_ready() {
            return Ok(served);
        }
        Err(Fault::unavailable(format!("model `{name}` has no replica that is up")))
    }
}

impl<M: Model> Deployment<M> {
    /// Makes the deployment reachable by the Open Inference Protocol, under its name.
    ///
    /// ```
    /// use air_core::BoxError;
    /// use air_serve::v2::{DataType, Signature, Tensor};
    /// use air_serve::{App, Deployment, each};
    ///
    /// fn double(inputs: Vec<Tensor>) -> Result<Vec<Tensor>, BoxError> {
    ///     let twice: Vec<f32> = inputs[0].elements::<f32>()?.iter().map(|x| 2.0 * x).collect();
    ///     Ok(vec![Tensor::new("y", inputs[0].shape(), &twice)?])
    /// }
    ///
    /// let signature = Signature::new().input("x", DataType::Fp32, [-1]).output("y", DataType::Fp32, [-1]);
    /// let double = Deployment::new("double", || Ok(each(double))).tensors(signature);
    /// let app = App::new().deploy(double); // POST /v2/models/double/infer
    /// ```
    pub fn tensors(mut self, codec: impl TensorCodec<M::In, M::Out>) -> Self {
        self.reach = Some(Reach::whole(codec));
        self
    }
}

impl<T: Send + 'static, M: Model<Out = Items<T>>> Deployment<M> {
    /// Makes a deployment whose answers are streams reachable by the Open Inference Protocol, under its name: each item is an answer of
    /// `ModelStreamInfer`, which is gRPC's.
    pub fn tensors_each(mut self, codec: impl TensorCodec<M::In, T>) -> Self {
        self.reach = Some(Reach::each(codec));
        self
    }
}
