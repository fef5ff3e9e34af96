//! Many models behind one deployment, of which each replica holds a few.
//!
//! | file | idea |
//! |---|---|
//! | `models` | what a replica holds, and what goes when more is asked for: pure |
//! | `held` | what others see of that |
//! | `affinity` | which replica takes a request: pure |
//!
//! A replica of such a deployment is an async one: while a model is loaded, on a thread of its own, those that are there answer.

mod affinity;
mod held;
mod models;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use air_core::BoxError;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

pub(crate) use affinity::{PATIENCE, takes};
pub use held::Held;
use models::{Look, Models};

use crate::deploy::{context, panic_text};
use crate::error::{CallError, Told, chain};
use crate::model::{Model, Start};

/// A model that is held.
type Loaded<M> = Arc<Mutex<M>>;

/// What came of a load, once that is known.
type Outcome<M> = watch::Receiver<Option<Result<Loaded<M>, Arc<str>>>>;

/// Builds the model of an id.
type Load<M> = dyn Fn(&str) -> Result<M, BoxError> + Send + Sync;

/// Models by their ids, loaded when one is asked for; see [`Deployment::multiplexed`](crate::Deployment::multiplexed).
pub struct Multiplexed<M>(Arc<Shared<M>>);

struct Shared<M> {
    load: Box<Load<M>>,
    models: Mutex<Models<Loaded<M>, Outcome<M>>>,
    held: Arc<Held>,
    /// A place may have become free.
    freed: Notify,
}

impl<M: Model> Multiplexed<M> {
    pub(crate) fn new(
        most: usize,
        load: impl Fn(&str) -> Result<M, BoxError> + Send + Sync + 'static,
    ) -> Result<Self, BoxError> {
        if most == 0 {
            return Err("a replica that holds no model answers nothing: let it hold one at the least".into());
        }
        let models = Mutex::new(Models::new(most));
        let (held, freed) = (Arc::default(), Notify::new());
        Ok(Multiplexed(Arc::new(Shared { load: Box::new(load), models, held, freed })))
    }
}

impl<M: Model> Model for Multiplexed<M> {
    type In = M::In;
    type Out = M::Out;

    /// For a warm-up, which asks for no model.
    fn predict(&mut self, _: Vec<M::In>) -> Result<Vec<M::Out>, BoxError> {
        Err("which model is to be warmed up? Warm a model up where it is loaded".into())
    }

    fn beside(&self) -> Option<Start<M::In, M::Out>> {
        let shared = Arc::clone(&self.0);
        Some(Arc::new(move |input| Box::pin(Arc::clone(&shared).answer(input))))
    }

    fn holds(&self) -> Option<Arc<Held>> {
        Some(Arc::clone(&self.0.held))
    }
}

/// Whether it may be the id of a model: it is kept, and shown.
fn valid(id: &str) -> Result<(), Told> {
    let got = || format!("one of {} bytes", id.len());
    crate::http::model_id(id).map(drop).map_err(|expected| Told(CallError::Invalid { expected, got: got() }))
}

impl<M: Model> Shared<M> {
    async fn answer(self: Arc<Self>, input: M::In) -> Result<M::Out, BoxError> {
        let Some(id) = context::model_id() else {
            let expected =
                "which model is meant: the header `serve_multiplexed_model_id`, or `handle.multiplexed(id)`";
            let got = "a request that says none".to_owned();
            return Err(Told(CallError::Invalid { expected: expected.into(), got }).into());
        };
        valid(&id)?;
        let user = Arc::clone(&self).take_place(&id).await;
        let model = user.model(&id).await?;
        // In one go, so that nobody else has a hold on the model while this one waits.
        let answers = catch_unwind(AssertUnwindSafe(|| model.lock().predict(vec![input])));
        drop(model);
        match answers {
            Ok(answers) => {
                let mut answers = answers?;
                let got = answers.len();
                let one = answers.pop().filter(|_| got == 1);
                one.ok_or_else(|| format!("model `{id}` gave {got} answers to one request").into())
            }
            Err(panic) => {
                // What a panic left behind is not used again.
                self.forget(&id);
                resume_unwind(panic);
            }
        }
    }

    /// A place for that model: where it is, or is loaded; else one into which it is loaded, once for all who ask for it meanwhile.
    async fn take_place(self: Arc<Self>, id: &Arc<str>) -> User<M> {
        loop {
            // Made before it is looked, so that nothing is missed in between.
            let freed = self.freed.notified();
            let (known, outcome) = watch::channel(None);
            let look = self.models.lock().look(id, outcome);
            let Some((number, look)) = look else {
                freed.await;
                continue;
            };
            let outcome = match look {
                Look::Ready(model) => {
                    self.held.hit();
                    watch::channel(Some(Ok(model))).1
                }
                Look::Wait(outcome) => outcome,
                Look::Load { outcome, evicted } => {
                    self.note();
                    self.start_load(id, evicted, known);
                    outcome
                }
            };
            return User { shared: Arc::clone(&self), number, outcome: Some(outcome) };
        }
    }

    /// Loads a model on a thread of its own. Nobody waits for that thread: the load goes on for those who come later, should those go who ask
    /// now; and one that does not return holds up nothing else.
    fn start_load(
        self: &Arc<Self>,
        id: &Arc<str>,
        evicted: Option<(Arc<str>, Loaded<M>)>,
        known: watch::Sender<Option<Result<Loaded<M>, Arc<str>>>>,
    ) {
        let (shared, name) = (Arc::clone(self), Arc::clone(id));
        let known = Arc::new(known);
        let tell = Arc::clone(&known);
        let load = move || {
            if let Some((gone, model)) = evicted {
                shared.unload(&gone, model);
            }
            let result = shared.load(&name);
            tell.send_replace(Some(result));
            shared.freed.notify_waiters();
        };
        if let Err(error) = std::thread::Builder::new().name("serve/load".into()).spawn(load) {
            self.models.lock().loaded(id, None);
            self.note();
            known.send_replace(Some(Err(format!("there is no thread to load it on: {error}").into())));
        }
    }

    fn load(&self, id: &Arc<str>) -> Result<Loaded<M>, Arc<str>> {
        let loaded = match catch_unwind(AssertUnwindSafe(|| (self.load)(id))) {
            Ok(loaded) => loaded.map_err(|error| chain(&error)),
            Err(panic) => Err(format!("it panicked: {}", panic_text(&*panic)).into()),
        };
        self.held.loaded(loaded.is_ok());
        if let Err(reason) = &loaded {
            tracing::warn!(model = %id, %reason, "a model could not be loaded");
        }
        let loaded = loaded.map(|model| Arc::new(Mutex::new(model)));
        self.models.lock().loaded(id, loaded.as_ref().ok().cloned());
        self.note();
        loaded
    }

    /// Drops a model that nobody uses, here.
    fn unload(&self, id: &str, model: Loaded<M>) {
        self.held.evicted();
        if catch_unwind(AssertUnwindSafe(|| drop(model))).is_err() {
            tracing::warn!(model = %id, "a model panicked when it was dropped");
        }
    }

    fn forget(self: &Arc<Self>, id: &Arc<str>) {
        let model = self.models.lock().forget(id);
        self.note();
        if let Some(model) = model {
            let (shared, id) = (Arc::clone(self), Arc::clone(id));
            let dropping = std::thread::Builder::new().name("serve/unload".into());
            // Without a thread it is dropped here, which is no worse than slow.
            drop(dropping.spawn(move || shared.unload(&id, model)));
        }
        self.freed.notify_waiters();
    }

    fn note(&self) {
        self.held.set(self.models.lock().ids());
    }
}

/// A request that waits for a model or uses it, which does not go as long as this is there.
struct User<M> {
    shared: Arc<Shared<M>>,
    number: u64,
    outcome: Option<Outcome<M>>,
}

impl<M> User<M> {
    async fn model(&self, id: &str) -> Result<Loaded<M>, BoxError> {
        let ending = || Arc::<str>::from("its replica is ending");
        let mut outcome = self.outcome.clone().ok_or("its place is gone")?;
        let loaded = match outcome.wait_for(Option::is_some).await {
            Ok(loaded) => loaded.clone().unwrap_or_else(|| Err(ending())),
            Err(_) => Err(ending()),
        };
        loaded.map_err(|reason| format!("model `{id}` could not be loaded: {reason}").into())
    }
}

impl<M> Drop for User<M> {
    fn drop(&mut self) {
        // It has a hold on the model too.
        self.outcome = None;
        if self.shared.models.lock().leave(self.number) {
            self.shared.freed.notify_waiters();
        }
    }
}
