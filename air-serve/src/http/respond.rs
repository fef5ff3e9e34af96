//! What a route can answer with.

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::route::{Endpoint, Json};
use super::stream::Streamed;
use crate::deploy::DeploymentHandle;
use crate::ensemble::{CallJson, json_target};
use crate::stream::{Items, Raw};

/// What a [route](crate::App::route) can answer with: whatever can be written as JSON; [`Items`] of such, one after the other as they come;
/// and `Items<`[`Raw`]`>`, bytes that go out as they are.
pub trait Respond: Answer {}

impl<O: Answer> Respond for O {}

/// What answers the requests of a route.
pub struct Answering(pub(crate) Box<dyn Endpoint>);

/// How a route answers with it.
pub trait Answer: Sized + Send + 'static {
    #[doc(hidden)]
    fn endpoint<I: DeserializeOwned + Send + 'static>(handle: DeploymentHandle<I, Self>) -> Answering;

    /// Calls of it with JSON on both sides, which streams do not have.
    #[doc(hidden)]
    fn json<I: DeserializeOwned + Send + 'static>(
        _: &DeploymentHandle<I, Self>,
    ) -> Option<Arc<dyn CallJson>> {
        None
    }
}

impl<O: Serialize + Send + 'static> Answer for O {
    fn endpoint<I: DeserializeOwned + Send + 'static>(handle: DeploymentHandle<I, O>) -> Answering {
        Answering(Box::new(Json(handle)))
    }

    fn json<I: DeserializeOwned + Send + 'static>(
        handle: &DeploymentHandle<I, O>,
    ) -> Option<Arc<dyn CallJson>> {
        Some(json_target(handle))
    }
}

impl<T: Serialize + Send + 'static> Answer for Items<T> {
    fn endpoint<I: DeserializeOwned + Send + 'static>(handle: DeploymentHandle<I, Items<T>>) -> Answering {
        Answering(Box::new(Streamed::json(handle)))
    }
}

impl Answer for Items<Raw> {
    fn endpoint<I: DeserializeOwned + Send + 'static>(handle: DeploymentHandle<I, Items<Raw>>) -> Answering {
        Answering(Box::new(Streamed::raw(handle)))
    }
}
