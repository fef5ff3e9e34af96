//! [`Parts`]: tasks with several results.

use std::sync::{Arc, OnceLock};

use super::args::Args;
use super::node::{Plan, start};
use super::pool::Shared;
use crate::BoxError;
use crate::object::{Dependant, Object, ObjectError, Outcome, Promise, Store, settle};

mod sealed {
    pub trait Sealed {}
}

/// Several results of one task: a tuple of two to four.
pub trait Parts: sealed::Sealed + Send + 'static {
    /// An object for each.
    type Objects;

    #[doc(hidden)]
    type Promises: Promises<Parts = Self, Objects = Self::Objects>;
}

#[doc(hidden)]
pub trait Promises: Clone + Send + Sync + 'static {
    type Parts;
    type Objects;

    fn new() -> Self;
    fn keep(&self, parts: Self::Parts, store: &Arc<Store>);
    fn fail(&self, error: &ObjectError);
    fn objects(self, parent: &Object<()>) -> Self::Objects;
}

type Shared1<T> = Arc<Promise<T>>;

macro_rules! parts {
    ($($part:ident $field:tt),*) => {
        impl<$($part: Send + Sync + 'static),*> sealed::Sealed for ($($part,)*) {}

        impl<$($part: Send + Sync + 'static),*> Parts for ($($part,)*) {
            type Objects = ($(Object<$part>,)*);
            type Promises = ($(Shared1<$part>,)*);
        }

        impl<$($part: Send + Sync + 'static),*> Promises for ($(Shared1<$part>,)*) {
            type Parts = ($($part,)*);
            type Objects = ($(Object<$part>,)*);

            fn new() -> Self {
                ($(Shared1::<$part>::new(Promise::empty()),)*)
            }

            fn keep(&self, parts: Self::Parts, store: &Arc<Store>) {
                $(settle(&self.$field.slot, store.hold(parts.$field));)*
            }

            fn fail(&self, error: &ObjectError) {
                $(settle(&self.$field.slot, Outcome::Failed(error.clone()));)*
            }

            fn objects(self, parent: &Object<()>) -> Self::Objects {
                $(let _ = self.$field.parent.set(parent.clone());)*
                ($(Object::new(self.$field),)*)
            }
        }
    };
}

parts!(A 0, B 1);
parts!(A 0, B 1, C 2);
parts!(A 0, B 1, C 2, D 3);

/// Fails the parts when their task fails.
struct Follow<P> {
    promises: P,
    parent: OnceLock<Object<()>>,
}

impl<P: Promises> Dependant for Follow<P> {
    fn arrived(self: Arc<Self>, failed: bool) {
        if failed
            && let Some(Outcome::Failed(error)) = self.parent.get().and_then(|parent| parent.slot().get())
        {
            self.promises.fail(error);
        }
    }
}

pub(super) fn start_parts<A: Args, P: Parts>(
    shared: &Arc<Shared>,
    plan: Plan,
    args: A,
    mut body: impl FnMut(A::Given) -> Result<P, BoxError> + Send + 'static,
) -> P::Objects {
    let promises = P::Promises::new();
    let (kept, store) = (promises.clone(), Arc::clone(&shared.store));
    let parent = start(shared, plan, args, move |given| {
        let parts = body(given)?;
        // A task that was cancelled meanwhile keeps nothing: its parts have failed, and the first outcome stands.
        kept.keep(parts, &store);
        Ok(())
    });
    let follow = Arc::new(Follow { promises: promises.clone(), parent: OnceLock::new() });
    let _ = follow.parent.set(parent.clone());
    if let Err(follow) = parent.slot().depend(follow) {
        follow.arrived(true);
    }
    promises.objects(&parent)
}
