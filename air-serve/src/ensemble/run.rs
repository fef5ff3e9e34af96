//! The model made of a graph.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use air_core::BoxError;
use futures::future::{BoxFuture, LocalBoxFuture, try_join_all};
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::split::Turns;
use super::{Case, Graph, INPUT, Step};
use crate::async_model::{Async, AsyncModel};
use crate::deploy::{Deployment, DeploymentHandle, Line, Target};
use crate::error::{CallError, Told};

/// Calls a deployment with JSON on both sides.
pub trait CallJson: Send + Sync {
    fn call(&self, input: Value) -> BoxFuture<'static, Result<Value, CallError>>;
}

struct Json<I, O>(DeploymentHandle<I, O>);

impl<I: DeserializeOwned + Send + 'static, O: Serialize + Send + 'static> CallJson for Json<I, O> {
    fn call(&self, input: Value) -> BoxFuture<'static, Result<Value, CallError>> {
        let name = self.0.name().to_owned();
        // Read and called here, where it is known on whose behalf.
        let call = serde_json::from_value(input).map(|input| self.0.call(input));
        Box::pin(async move {
            let call = call.map_err(|error| CallError::Invalid {
                expected: format!("what deployment `{name}` takes"),
                got: format!("JSON that does not fit: {error}"),
            })?;
            serde_json::to_value(call.await?).map_err(|error| CallError::Invalid {
                expected: format!("an answer of deployment `{name}` that can be written as JSON"),
                got: error.to_string(),
            })
        })
    }
}

/// Calls a deployment by JSON.
pub(crate) fn json_target<I, O>(handle: &DeploymentHandle<I, O>) -> Arc<dyn CallJson>
where
    I: DeserializeOwned + Send + 'static,
    O: Serialize + Send + 'static,
{
    Arc::new(Json(handle.clone()))
}

/// A deployment that is called with JSON, once it is known.
pub(crate) struct JsonLine {
    name: Arc<str>,
    to: OnceLock<Arc<dyn CallJson>>,
}

impl JsonLine {
    pub(crate) fn new(name: &str) -> Arc<Self> {
        Arc::new(JsonLine { name: name.into(), to: OnceLock::new() })
    }

    pub(crate) fn call(&self, input: Value) -> BoxFuture<'static, Result<Value, CallError>> {
        if let Some(to) = self.to.get() {
            return to.call(input);
        }
        let error = CallError::NotRunning { deployment: Arc::clone(&self.name) };
        Box::pin(std::future::ready(Err(error)))
    }
}

impl Line for JsonLine {
    fn name(&self) -> &Arc<str> {
        &self.name
    }

    fn connect(&self, to: &Target) -> Result<(), String> {
        let to = to.json.clone().ok_or("with JSON, which it does not take: give it a route")?;
        let _ = self.to.set(to);
        Ok(())
    }
}

/// A step with what it calls.
enum Node {
    Input,
    Call(Arc<JsonLine>),
    Sequence(Vec<Node>),
    Parallel(Vec<(String, Node)>),
    Switch(Vec<(Case, Node)>),
    Split(Mutex<Turns>, Vec<Node>),
}

impl Node {
    fn new(step: &Step, lines: &BTreeMap<&str, Arc<JsonLine>>) -> Node {
        let node = |step: &Step| Node::new(step, lines);
        let graph = match step {
            Step::Graph(graph) => &**graph,
            Step::Call(name) if name == INPUT => return Node::Input,
            Step::Call(name) => {
                return lines.get(name.as_str()).map_or(Node::Input, |line| Node::Call(Arc::clone(line)));
            }
        };
        match graph {
            Graph::Sequence(steps) => Node::Sequence(steps.iter().map(node).collect()),
            Graph::Parallel(steps) => {
                Node::Parallel(steps.iter().map(|(name, step)| (name.clone(), node(step))).collect())
            }
            Graph::Switch(cases) => {
                Node::Switch(cases.iter().map(|case| (case.clone(), node(&case.then))).collect())
            }
            Graph::Split(branches) => Node::Split(
                Mutex::new(Turns::new(branches.iter().map(|branch| branch.weight).collect())),
                branches.iter().map(|branch| node(&branch.then)).collect(),
            ),
        }
    }

    fn run<'a>(&'a self, value: Value) -> LocalBoxFuture<'a, Result<Value, CallError>> {
        Box::pin(async move {
            match self {
                Node::Input => Ok(value),
                Node::Call(line) => line.call(value).await,
                Node::Sequence(steps) => {
                    let mut value = value;
                    for step in steps {
                        value = step.run(value).await?;
                    }
                    Ok(value)
                }
                Node::Parallel(steps) => {
                    let run = |(name, step): &'a (String, Node)| {
                        let answer = step.run(value.clone());
                        async move { answer.await.map(|answer| (name.clone(), answer)) }
                    };
                    Ok(Value::Object(
                        try_join_all(steps.iter().map(run)).await?.into_iter().collect::<Map<_, _>>(),
                    ))
                }
                Node::Switch(cases) => match cases.iter().find(|(case, _)| case.holds(&value)) {
                    Some((_, step)) => step.run(value).await,
                    None => Err(CallError::Invalid {
                        expected: "a value for which a case of the switch holds".into(),
                        got: "one for which none does".into(),
                    }),
                },
                Node::Split(turns, steps) => {
                    let turn = turns.lock().next();
                    match steps.get(turn) {
                        Some(step) => step.run(value).await,
                        None => Ok(value),
                    }
                }
            }
        })
    }
}

/// A graph as a model.
pub(crate) struct Ensemble(Arc<Node>);

impl AsyncModel for Ensemble {
    type In = Value;
    type Out = Value;

    async fn call(&self, input: Value) -> Result<Value, BoxError> {
        // What goes wrong in a step is the caller's to know as it is.
        self.0.run(input).await.map_err(|error| Told(error).into())
    }
}

/// A deployment that answers by a graph, which is valid.
pub(crate) fn deployment(name: &str, graph: &Step) -> Deployment<Async<Ensemble>> {
    let lines: BTreeMap<&str, Arc<JsonLine>> =
        graph.calls().into_iter().map(|name| (name, JsonLine::new(name))).collect();
    let root = Arc::new(Node::new(graph, &lines));
    let mut deployment = Deployment::new(name, move || Ok(Async::new(Ensemble(Arc::clone(&root)))));
    deployment.uses.extend(lines.into_values().map(|line| line as Arc<dyn Line>));
    deployment
}
