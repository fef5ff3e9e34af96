//! Workers that are found by name.

use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;

use super::message::Worker;
use super::shared::Shared;
use crate::error::{CoreError, Result};
use parking_lot::Mutex;

/// Each name is one worker's until that has ended for good.
#[derive(Default)]
pub(super) struct Names(Mutex<HashMap<Arc<str>, Named>>);

struct Named {
    worker: Arc<dyn Any + Send + Sync>,
    type_name: &'static str,
}

impl Named {
    fn of<W: Worker>(&self, name: &str) -> Result<Arc<Shared<W>>> {
        Arc::clone(&self.worker).downcast().map_err(|_| CoreError::NameTaken {
            name: name.to_owned(),
            wanted: std::any::type_name::<W>(),
            found: self.type_name,
        })
    }
}

impl Names {
    pub(super) fn find<W: Worker>(&self, name: &str) -> Result<Option<Arc<Shared<W>>>> {
        self.0.lock().get(name).map(|named| named.of(name)).transpose()
    }

    /// The worker of this name, or a new one that has it from now on; says whether it is new.
    pub(super) fn claim<W: Worker>(
        &self,
        name: &Arc<str>,
        make: impl FnOnce() -> Shared<W>,
    ) -> Result<(Arc<Shared<W>>, bool)> {
        let mut names = self.0.lock();
        if let Some(named) = names.get(name) {
            return Ok((named.of(name)?, false));
        }
        let worker = Arc::new(make());
        let named = Named { worker: Arc::<Shared<W>>::clone(&worker), type_name: std::any::type_name::<W>() };
        names.insert(Arc::clone(name), named);
        Ok((worker, true))
    }

    /// Frees the name if it is this worker's.
    pub(super) fn free<W: Worker>(&self, name: &str, worker: &Shared<W>) {
        let mut names = self.0.lock();
        let held = names.get(name).is_some_and(|named| std::ptr::addr_eq(Arc::as_ptr(&named.worker), worker));
        let freed = if held { names.remove(name) } else { None };
        // What the worker's state drops with it is dropped outside the lock.
        drop(names);
        drop(freed);
    }

    /// The names that begin so, in order.
    pub(super) fn within(&self, prefix: &str) -> Vec<Arc<str>> {
        let mut found: Vec<_> =
            self.0.lock().keys().filter(|name| name.starts_with(prefix)).cloned().collect();
        found.sort_unstable();
        found
    }
}
