//! A directory of models that can be loaded and unloaded while the server runs.
//!
//! A load that comes while one of the same model is under way waits for that one and shares its outcome. The new model is there before the
//! old one leaves the catalog, in one step; the old one ends when the last request that found it has been answered.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use air_core::BoxError;
use air_core::object::{Object, ObjectError};
use futures::future::BoxFuture;
use parking_lot::Mutex;
use serde::Serialize;

use super::catalog::{Catalog, Served};
use super::fault::{Fault, Kind};
use super::signature::shortened;
use crate::app::Part;
use crate::deploy::{Deployment, DeploymentConfig, Ground};
use crate::error::{ServeError, chain};
use crate::onnx;

/// More entries in the directory are an error: somebody named the wrong one.
const MAX_ENTRIES: usize = 10_000;

/// The models of a directory: `NAME.onnx`, `NAME/model.onnx`, or `NAME/VERSION/model.onnx`, of which the highest version counts.
pub(crate) struct Repository {
    directory: PathBuf,
    config: DeploymentConfig,
    ground: Ground,
    catalog: Arc<Catalog>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    loading: HashMap<String, Object<Result<(), Fault>>>,
    /// Why models that are not there are not.
    reasons: HashMap<String, String>,
}

/// A model of the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Found {
    path: PathBuf,
    version: String,
}

/// A line of the index.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Indexed {
    pub name: String,
    pub version: String,
    pub state: &'static str,
    pub reason: String,
}

impl Repository {
    pub(crate) fn open(
        directory: PathBuf,
        config: DeploymentConfig,
        ground: Ground,
        catalog: Arc<Catalog>,
    ) -> Result<Arc<Repository>, ServeError> {
        config.validate()?;
        let repository = Arc::new(Repository { directory, config, ground, catalog, state: Mutex::default() });
        repository.load_all().map_err(ServeError::config)?;
        Ok(repository)
    }

    fn found(&self) -> Result<BTreeMap<String, Found>, Fault> {
        self.scan().map_err(|reason| Fault::new(Kind::Internal, reason))
    }

    fn scan(&self) -> Result<BTreeMap<String, Found>, String> {
        let failed = |error: std::io::Error| {
            format!("the model repository {} cannot be read: {error}", self.directory.display())
        };
        let mut found = BTreeMap::new();
        for (index, entry) in std::fs::read_dir(&self.directory).map_err(failed)?.enumerate() {
            if index == MAX_ENTRIES {
                let directory = self.directory.display();
                return Err(format!("the model repository {directory} has more than {MAX_ENTRIES} entries"));
            }
            let path = entry.map_err(failed)?.path();
            // What no client could name is not there.
            if let Some((name, model)) = model_at(&path) {
                found.entry(name).or_insert(model);
            }
        }
        Ok(found)
    }

    /// What is in the directory, and what else is served.
    pub(crate) fn index(&self) -> Result<Vec<Indexed>, Fault> {
        let mut found = self.found()?;
        for name in self.catalog.names() {
            let version =
                |served: Arc<Served>| Found { path: PathBuf::new(), version: served.version.clone() };
            if let Ok(served) = self.catalog.find(&name, None) {
                found.entry(name.to_string()).or_insert_with(|| version(served));
            }
        }
        let state = self.state.lock();
        let line = |(name, found): (String, Found)| {
            let served = self.catalog.find(&name, None).ok();
            let reason = state.reasons.get(&name).cloned().unwrap_or_default();
            let (is_loading, is_ready) =
                (state.loading.contains_key(&name), served.as_ref().is_some_and(|served| served.is_ready()));
            let version = served.map_or(found.version, |served| served.version.clone());
            match (is_ready, is_loading) {
                (true, _) => Indexed { name, version, state: "READY", reason: String::new() },
                (false, true) => Indexed { name, version, state: "LOADING", reason: String::new() },
                (false, false) => Indexed { name, version, state: "UNAVAILABLE", reason },
            }
        };
        Ok(found.into_iter().map(line).collect())
    }

    /// Loads all models; those that cannot be loaded are in the index with the reason.
    fn load_all(self: &Arc<Self>) -> Result<(), String> {
        let names = self.scan()?.into_keys();
        let loads: Vec<_> = names.map(|name| (self.start_load(&name), name)).collect();
        for (load, name) in loads {
            let outcome = load.and_then(|load| match load.get() {
                Ok(outcome) => Result::clone(&outcome),
                Err(error) => Err(self.lost(&name, error)),
            });
            if let Err(fault) = outcome {
                tracing::error!(model = name, reason = fault.message, "not loaded");
            }
        }
        Ok(())
    }

    /// Loads a model, or loads it anew.
    pub(crate) fn load(self: &Arc<Self>, name: &str) -> BoxFuture<'static, Result<(), Fault>> {
        let (repository, name) = (Arc::clone(self), name.to_owned());
        Box::pin(async move {
            match repository.start_load(&name)?.await {
                Ok(outcome) => Result::clone(&outcome),
                Err(error) => Err(repository.lost(&name, error)),
            }
        })
    }

    /// A load that did not come to its end, by a panic or because the server ends.
    fn lost(&self, name: &str, error: ObjectError) -> Fault {
        let message = format!("loading model `{name}` failed: {}", chain(&BoxError::from(error)));
        let mut state = self.state.lock();
        state.loading.remove(name);
        state.reasons.insert(name.to_owned(), message.clone());
        Fault::new(Kind::Internal, message)
    }

    fn start_load(self: &Arc<Self>, name: &str) -> Result<Object<Result<(), Fault>>, Fault> {
        let found = self.found()?.remove(name).ok_or_else(|| Self::unknown(name))?;
        if let Ok(served) = self.catalog.find(name, None)
            && !served.is_owning()
        {
            let message = format!("the name `{name}` is that of a deployment, which cannot be loaded");
            return Err(Fault::new(Kind::Refused, message));
        }
        let mut state = self.state.lock();
        if let Some(loading) = state.loading.get(name).filter(|loading| !loading.is_ready()) {
            return Ok(loading.clone());
        }
        let (repository, of) = (Arc::clone(self), name.to_owned());
        let loading = self.ground.runtime.task(format!("load {name}")).spawn(move || {
            let outcome = repository.serve(&of, &found);
            let mut state = repository.state.lock();
            state.loading.remove(&of);
            match &outcome {
                Ok(()) => state.reasons.remove(&of),
                Err(fault) => state.reasons.insert(of.clone(), fault.message.clone()),
            };
            Ok(outcome)
        });
        // The task cannot have ended before: it takes the lock.
        state.loading.insert(name.to_owned(), loading.clone());
        Ok(loading)
    }

    /// Starts a deployment of the model and puts it in the place of the one before.
    fn serve(&self, name: &str, found: &Found) -> Result<(), Fault> {
        let failed =
            |error: BoxError| Fault::new(Kind::Refused, format!("model `{name}`: {}", chain(&error)));
        let graph = onnx::load(&found.path).map_err(|error| failed(error.into()))?;
        let deployment =
            Deployment::graph(name, graph).config(self.config.clone()).version(found.version.as_str());
        let part = Part::new(deployment);
        let start = || -> Result<Option<Served>, ServeError> {
            let (running, outcome) = part.planned.start(&self.ground)?;
            let served = part
                .served
                .map(|make| make(&running))
                .transpose()?
                .map(|served| served.owning(&found.version));
            outcome.wait()?;
            Ok(served)
        };
        if let Some(served) = start().map_err(|error| failed(error.into()))? {
            self.catalog.put(served);
        }
        tracing::info!(model = name, version = found.version, "loaded");
        Ok(())
    }

    /// Takes a model out of the catalog. Requests under way are still answered.
    pub(crate) fn unload(self: &Arc<Self>, name: &str) -> BoxFuture<'static, Result<(), Fault>> {
        let (repository, name) = (Arc::clone(self), name.to_owned());
        Box::pin(async move {
            let loading = repository.state.lock().loading.get(&name).cloned();
            if let Some(loading) = loading {
                // Otherwise the load would put it back.
                let _ = loading.await;
            }
            repository.take_out(&name)
        })
    }

    fn take_out(&self, name: &str) -> Result<(), Fault> {
        match self.catalog.find(name, None) {
            Ok(served) if served.is_owning() => {
                self.state.lock().reasons.insert(name.to_owned(), "unloaded".to_owned());
                self.catalog.take(name);
                tracing::info!(model = name, "unloaded");
                Ok(())
            }
            Ok(_) => {
                let message = format!("the name `{name}` is that of a deployment, which cannot be unloaded");
                Err(Fault::new(Kind::Refused, message))
            }
            // Unloading what is not loaded has nothing left to do.
            Err(_) if self.found()?.contains_key(name) => Ok(()),
            Err(_) => Err(Self::unknown(name)),
        }
    }

    fn unknown(name: &str) -> Fault {
        let message =
            format!("no model `{}` in the repository; POST /v2/repository/index lists them", shortened(name));
        Fault::new(Kind::NotFound, message)
    }
}

/// The model that an entry of the directory is, with its name.
fn model_at(path: &Path) -> Option<(String, Found)> {
    let file = |path: &Path| path.join("model.onnx").is_file().then(|| path.join("model.onnx"));
    if path.is_file() {
        let is_model = path.extension().is_some_and(|ending| ending == "onnx");
        let name = path.file_stem()?.to_str()?.to_owned();
        return is_model
            .then(|| (name, Found { path: path.to_owned(), version: super::catalog::VERSION.to_owned() }));
    }
    let name = path.file_name()?.to_str()?.to_owned();
    if let Some(path) = file(path) {
        return Some((name, Found { path, version: super::catalog::VERSION.to_owned() }));
    }
    let versions = std::fs::read_dir(path).ok()?.take(MAX_ENTRIES).flatten().filter_map(|entry| {
        let number: u64 = entry.file_name().to_str()?.parse().ok()?;
        Some((number, file(&entry.path())?))
    });
    let (number, path) = versions.max()?;
    Some((name, Found { path, version: number.to_string() }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_model_is_a_file_a_folder_or_the_highest_of_numbered_folders() {
        let dir = tempfile::tempdir().unwrap();
        let put = |path: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        };
        [
            "a.onnx",
            "b/model.onnx",
            "c/2/model.onnx",
            "c/10/model.onnx",
            "c/11/other.onnx",
            "d/notes.txt",
            "e.txt",
        ]
        .into_iter()
        .for_each(put);
        let at = |name: &str| {
            let (name, found) = model_at(&dir.path().join(name))?;
            let path = found.path.strip_prefix(dir.path()).unwrap().to_str().unwrap().to_owned();
            Some((name, found.version, path))
        };
        let model = |name: &str, version: &str, path: &str| {
            Some((name.to_owned(), version.to_owned(), path.to_owned()))
        };
        assert_eq!(at("a.onnx"), model("a", "1", "a.onnx"));
        assert_eq!(at("b"), model("b", "1", "b/model.onnx"));
        assert_eq!(at("c"), model("c", "10", "c/10/model.onnx"));
        assert_eq!((at("d"), at("e.txt"), at("f")), (None, None, None));
    }
}
