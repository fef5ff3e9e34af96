//! What is reachable by the protocol: models by name, each with its signature and its deployment.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use futures::StreamExt as _;

use super::fault::{Fault, Kind};
use super::infer::{Inference, select};
use super::reach::{Answer, Answers, Begun, Outcome, Reach, Signed, Target, Through};
use super::signature::shortened;
use super::tensor::Tensor;
use crate::deploy::{DeploymentHandle, Running};

/// The version of a model that does not say which it is.
pub(crate) const VERSION: &str = "1";

/// A model that the protocol reaches.
pub(crate) struct Served {
    pub name: Arc<str>,
    pub version: String,
    running: Arc<dyn Running>,
    target: Box<dyn Target>,
    /// Whether the deployment ends with this value: when it has left the catalog and those who found it there are done.
    owns: bool,
    since: SystemTime,
}

impl Drop for Served {
    fn drop(&mut self) {
        if self.owns {
            // It answers what it has let in, and nobody has to wait for that.
            let _ = self.running.close();
        }
    }
}

impl Served {
    pub(crate) fn new<I: Send + 'static, O: Send + 'static>(
        running: Arc<dyn Running>,
        handle: DeploymentHandle<I, O>,
        first: Reach<I, O>,
    ) -> Served {
        let name = Arc::clone(running.name());
        let target = Box::new(Through { handle, first });
        Served { name, version: VERSION.to_owned(), running, target, owns: false, since: SystemTime::now() }
    }

    /// The deployment ends with this value.
    pub(crate) fn owning(mut self, version: &str) -> Served {
        version.clone_into(&mut self.version);
        self.owns = true;
        self
    }

    /// Its deployment.
    pub(crate) fn running(&self) -> &Arc<dyn Running> {
        &self.running
    }

    /// Since when it is served.
    pub(crate) fn since(&self) -> SystemTime {
        self.since
    }

    /// Whether it comes from the model repository.
    pub(crate) fn is_owning(&self) -> bool {
        self.owns
    }

    /// What it takes and gives now.
    pub(crate) fn signed(&self) -> Arc<dyn Signed> {
        self.target.signed()
    }

    /// Whether it can answer.
    pub(crate) fn is_ready(&self) -> bool {
        self.running.is_up()
    }

    /// Answers a request: in place where the model is called there.
    pub(crate) async fn infer(&self, request: &Inference) -> Result<Vec<Tensor>, Fault> {
        let Begun { by, answers } = self.target.call(request)?;
        let outputs = match answers {
            Outcome::Now(outputs) => outputs,
            Outcome::Later(outputs) => outputs.await,
        };
        select(by.signature(), &request.outputs, outputs?)
    }

    /// Answers a request with one answer or, if they are a stream, several.
    pub(crate) fn answers(self: &Arc<Self>, request: &mut Inference) -> Result<Answers, Fault> {
        let Begun { by, answers } = self.target.stream(request)?;
        // Held so that the deployment does not end before.
        let (served, wanted) = (Arc::clone(self), std::mem::take(&mut request.outputs));
        let selected = answers.map(move |answer| {
            let _ = &served;
            let Answer { outputs, is_last } = answer?;
            let outputs = outputs.map(|outputs| select(by.signature(), &wanted, outputs)).transpose()?;
            Ok(Answer { outputs, is_last })
        });
        Ok(selected.boxed())
    }
}

/// All models, by name. Replaced as a whole, never changed.
#[derive(Default)]
pub(crate) struct Catalog {
    models: ArcSwap<BTreeMap<Arc<str>, Arc<Served>>>,
}

impl Catalog {
    /// All models, in the order of their names.
    pub(crate) fn all(&self) -> Vec<Arc<Served>> {
        self.models.load().values().cloned().collect()
    }

    /// The models that come from the repository.
    pub(crate) fn of_repository(&self) -> Vec<Arc<Served>> {
        self.models.load().values().filter(|model| model.owns).cloned().collect()
    }

    /// The names of all models, in order.
    pub(crate) fn names(&self) -> Vec<Arc<str>> {
        self.models.load().keys().cloned().collect()
    }

    /// Puts a model in the place of the one of its name, if there is one.
    pub(crate) fn put(&self, served: Served) {
        let served = Arc::new(served);
        self.models.rcu(|models| {
            let mut models = BTreeMap::clone(models);
            models.insert(Arc::clone(&served.name), Arc::clone(&served));
            models
        });
    }

    /// Makes the deployments' models these; returns those that were there before. Models of the repository stay.
    pub(crate) fn declare(&self, served: Vec<Served>) -> Vec<Arc<Served>> {
        let served: Vec<_> = served.into_iter().map(Arc::new).collect();
        let before = self.models.rcu(|models| {
            let mut models = BTreeMap::clone(models);
            models.retain(|_, model| model.owns);
            models.extend(served.iter().map(|model| (Arc::clone(&model.name), Arc::clone(model))));
            models
        });
        before.values().filter(|model| !model.owns).cloned().collect()
    }

    /// Takes the model of that name out.
    pub(crate) fn take(&self, name: &str) {
        self.models.rcu(|models| {
            let mut models = BTreeMap::clone(models);
            models.remove(name);
            models
        });
    }

    /// Takes all models out.
    pub(crate) fn clear(&self) {
        self.models.store(Arc::default());
    }

    /// The model of that name, and of that version where one is asked for.
    pub(crate) fn find(&self, name: &str, version: Option<&str>) -> Result<Arc<Served>, Fault> {
        let found = self.models.load().get(name).cloned();
        let served = found.ok_or_else(|| {
            let message = format!("no model `{}`; GET /v2/models lists them", shortened(name));
            Fault::new(Kind::NotFound, message)
        })?;
        match version {
            Some(version) if version != served.version => {
                let message = format!(
                    "model `{name}` has no version `{}`: it has {}",
                    shortened(version),
                    served.version
                );
                Err(Fault::new(Kind::NotFound, message))
            }
            _ => Ok(served),
        }
    }
}
