//! The applications that a program has by name, for `import_path` in a file.

use std::collections::BTreeMap;
use std::path::PathBuf;

use air_core::BoxError;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use crate::app::App;
use crate::deploy::{Deployment, DeploymentConfig};
use crate::error::ServeError;
use crate::http::Respond;
use crate::model::Model;
use crate::onnx::OnnxModel;

/// How import paths of ONNX files begin.
pub(super) const ONNX: &str = "onnx://";
/// How import paths of language models begin.
pub(crate) const LLM: &str = "llm://";

/// The applications that a program has by name.
///
/// ```
/// use air_serve::{Deployment, Registry, each};
///
/// #[derive(serde::Deserialize)]
/// struct Args {
///     factor: f64,
/// }
/// let registry = Registry::new().register("scale:app", |args: Args| {
///     Ok(Deployment::new("scale", move || Ok(each(move |x: f64| Ok(args.factor * x)))))
/// });
/// // In a file: applications: [{route_prefix: /scale, import_path: "scale:app", args: {factor: 2.5}}]
/// # let _ = registry;
/// ```
///
/// [`cli::main_with`](crate::cli::main_with) is the whole command over a registry.
#[derive(Default)]
pub struct Registry {
    builders: BTreeMap<String, Builder>,
}

type Builder = Box<dyn Fn(Map<String, Value>) -> Result<Box<dyn Servable>, BoxError> + Send + Sync>;

impl Registry {
    /// Only what every program can serve: `onnx://` and the path of a file, and with the feature `llm` `llm://` and that of a directory.
    pub fn new() -> Self {
        Registry::default()
    }

    /// Registers an application. `build` is given the `args` of the file, as any type that can be read; `serde_json::Value` takes all.
    pub fn register<A, M>(
        mut self,
        import_path: impl Into<String>,
        build: impl Fn(A) -> Result<Deployment<M>, BoxError> + Send + Sync + 'static,
    ) -> Self
    where
        A: DeserializeOwned,
        M: Model,
        M::In: DeserializeOwned,
        M::Out: Respond,
    {
        let build = move |args: Map<String, Value>| {
            let args =
                serde_json::from_value(Value::Object(args)).map_err(|error| format!("its args: {error}"))?;
            Ok(Box::new(build(args)?) as Box<dyn Servable>)
        };
        self.builders.insert(import_path.into(), Box::new(build));
        self
    }

    /// Builds what an import path names. The application's name is for what has none of its own.
    pub(super) fn build(
        &self,
        application: &str,
        import_path: &str,
        args: Map<String, Value>,
    ) -> Result<Box<dyn Servable>, ServeError> {
        let paths = (import_path.strip_prefix(ONNX), import_path.strip_prefix(LLM));
        let built = match paths {
            (Some(path), _) => onnx(application, path, args),
            (_, Some(path)) => llm(application, path, args),
            _ => match self.builders.get(import_path) {
                Some(build) => build(args),
                None => Err(self.unknown(import_path).into()),
            },
        };
        built.map_err(|error| {
            let reason = crate::error::chain(&error);
            ServeError::config(format!("application `{application}`: {import_path}: {reason}"))
        })
    }

    fn unknown(&self, import_path: &str) -> String {
        if import_path.contains("://") {
            return format!("nothing serves this kind of path; there are {ONNX}PATH and {LLM}DIR");
        }
        let names: Vec<_> = self.builders.keys().map(|name| format!("`{name}`")).collect();
        match names.as_slice() {
            [] => format!("this program has registered no applications; there is {ONNX}PATH"),
            _ => format!("this program has not registered it; there are {} and {ONNX}PATH", names.join(", ")),
        }
    }
}

/// What the args of an ONNX application say.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OnnxArgs {
    /// Names of the classes, in the model's order.
    labels: Option<Vec<String>>,
    /// Whether answers have the score of each class.
    #[serde(default)]
    scores: bool,
}

fn onnx(name: &str, path: &str, args: Map<String, Value>) -> Result<Box<dyn Servable>, BoxError> {
    let given = Value::Object(args.clone()).to_string();
    let args: OnnxArgs =
        serde_json::from_value(Value::Object(args)).map_err(|error| format!("its args: {error}"))?;
    let mut model = OnnxModel::load(PathBuf::from(path))?.with_scores(args.scores);
    if let Some(labels) = args.labels {
        model = model.with_names(labels)?;
    }
    let version = version(&std::fs::read(path)?, &given);
    Ok(Box::new(Deployment::onnx(name, model).version(version)))
}

/// A language model; its args are the limits that it is served with.
#[cfg(feature = "llm")]
fn llm(name: &str, path: &str, args: Map<String, Value>) -> Result<Box<dyn Servable>, BoxError> {
    let given = Value::Object(args.clone()).to_string();
    let config = serde_json::from_value(Value::Object(args)).map_err(|error| format!("its args: {error}"))?;
    let llm = crate::llm::Llm::load_with(path, config)?;
    // Weights are large: which files these are is told by their sizes and times.
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        let about = entry.metadata()?;
        files.push(format!("{} {} {:?}", entry.file_name().display(), about.len(), about.modified()?));
    }
    files.sort_unstable();
    let version = version(files.join("\n").as_bytes(), &given);
    Ok(Box::new(ByName(Deployment::llm(name, llm).version(version))))
}

#[cfg(not(feature = "llm"))]
fn llm(_name: &str, _path: &str, _args: Map<String, Value>) -> Result<Box<dyn Servable>, BoxError> {
    Err(NO_LLM.into())
}

/// What is said of language models where they are not built in.
#[cfg(not(feature = "llm"))]
pub(crate) const NO_LLM: &str =
    "language models are not built into this program: build it with `--features llm`";

/// Names a model by what it is made of, so that a deploy of the same changes nothing about it.
pub(super) fn version(file: &[u8], args: &str) -> String {
    let digest: [u8; 32] = Sha256::new().chain_update(file).chain_update(args).finalize().into();
    format!("{:016x}", digest.first_chunk().map_or(0, |first| u64::from_be_bytes(*first)))
}

/// A deployment without the type of its model.
pub(super) trait Servable {
    fn name(&self) -> &str;
    fn config(&mut self) -> &mut DeploymentConfig;
    fn serve(self: Box<Self>, app: App, path: &str) -> App;
    /// Where it is found, if that is not its own path.
    fn route(&self) -> Option<&'static str> {
        None
    }
}

impl<M> Servable for Deployment<M>
where
    M: Model,
    M::In: DeserializeOwned,
    M::Out: Respond,
{
    fn name(&self) -> &str {
        &self.name
    }

    fn config(&mut self) -> &mut DeploymentConfig {
        &mut self.config
    }

    fn serve(self: Box<Self>, app: App, path: &str) -> App {
        app.route(path, *self)
    }
}

/// A deployment that is reached by its name, at the paths of OpenAI's API.
#[cfg(feature = "llm")]
struct ByName<M: Model>(Deployment<M>);

#[cfg(feature = "llm")]
impl<M: Model> Servable for ByName<M> {
    fn name(&self) -> &str {
        &self.0.name
    }

    fn config(&mut self) -> &mut DeploymentConfig {
        &mut self.0.config
    }

    fn serve(self: Box<Self>, app: App, _path: &str) -> App {
        app.deploy(self.0)
    }

    fn route(&self) -> Option<&'static str> {
        Some("/v1")
    }
}
