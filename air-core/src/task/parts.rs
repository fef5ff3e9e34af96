//! [`Parts`]: tasks with several results.

use std::sync::{Arc, OnceLock, Weak};

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

/// What the receiver's objects hold.
#[doc(hidden)]
pub trait Promises {
    type Parts;
    type Objects;
    type Seen: Seen<Parts = Self::Parts>;

    fn new() -> Self;
    fn seen(&self) -> Self::Seen;
    fn objects(self, parent: &Object<()>) -> Self::Objects;
}

/// The same promises as the task sees them: it keeps none alive, so a part is freed with its receiver's last handle, whatever the
/// task or the other parts are still at.
#[doc(hidden)]
pub trait Seen: Clone + Send + Sync + 'static {
    type Parts;

    fn keep(&self, parts: Self::Parts, store: &Arc<Store>);
    fn fail(&self, error: &ObjectError);
}

macro_rules! parts {
    ($($part:ident $field:tt),*) => {
        impl<$($part: Send + Sync + 'static),*> sealed::Sealed for ($($part,)*) {}

        impl<$($part: Send + Sync + 'static),*> Parts for ($($part,)*) {
            type Objects = ($(Object<$part>,)*);
            type Promises = ($(Arc<Promise<$part>>,)*);
        }

        impl<$($part: Send + Sync + 'static),*> Promises for ($(Arc<Promise<$part>>,)*) {
            type Parts = ($($part,)*);
            type Objects = ($(Object<$part>,)*);
            type Seen = ($(Weak<Promise<$part>>,)*);

            fn new() -> Self {
                ($(Arc::<Promise<$part>>::new(Promise::empty()),)*)
            }

            fn seen(&self) -> Self::Seen {
                ($(Arc::downgrade(&self.$field),)*)
            }

            fn objects(self, parent: &Object<()>) -> Self::Objects {
                $(let _ = self.$field.parent.set(parent.clone());)*
                ($(Object::new(self.$field),)*)
            }
        }

        impl<$($part: Send + Sync + 'static),*> Seen for ($(Weak<Promise<$part>>,)*) {
            type Parts = ($($part,)*);

            fn keep(&self, parts: Self::Parts, store: &Arc<Store>) {
                $(if let Some(promise) = self.$field.upgrade() {
                    settle(&promise.slot, store.hold(parts.$field));
                })*
            }

            fn fail(&self, error: &ObjectError) {
                $(if let Some(promise) = self.$field.upgrade() {
                    settle(&promise.slot, Outcome::Failed(error.clone()));
                })*
            }
        }
    };
}

parts!(A 0, B 1);
parts!(A 0, B 1, C 2);
parts!(A 0, B 1, C 2, D 3);

/// Fails the parts when their task fails.
struct Follow<S> {
    parts: S,
    parent: OnceLock<Object<()>>,
}

impl<S: Seen> Dependant for Follow<S> {
    fn arrived(self: Arc<Self>, failed: bool) {
        if failed
            && let Some(Outcome::Failed(error)) = self.parent.get().and_then(|parent| parent.slot().get())
        {
            self.parts.fail(error);
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
    let (seen, store) = (promises.seen(), Arc::clone(&shared.store));
    let parent = start(shared, plan, args, move |given| {
        let parts = body(given)?;
        // A task that was cancelled meanwhile keeps nothing: its parts have failed, and the first outcome stands.
        seen.keep(parts, &store);
        Ok(())
    });
    let follow = Arc::new(Follow { parts: promises.seen(), parent: OnceLock::new() });
    let _ = follow.parent.set(parent.clone());
    if let Err(follow) = parent.slot().depend(follow) {
        follow.arrived(true);
    }
    promises.objects(&parent)
}
