//! The runtime that a session's workers live in.

use std::sync::{Arc, OnceLock};

use air_core::{Runtime, RuntimeHandle};

use crate::error::{DataError, Result};

/// A runtime of its own, started with the first worker, or the one it was given. An extension of the engine's settings, so that
/// operators find it.
pub(crate) struct Workers {
    prefetch_bytes: usize,
    given: Option<RuntimeHandle>,
    own: OnceLock<std::result::Result<Runtime, Arc<DataError>>>,
}

impl Workers {
    pub(crate) fn new(given: Option<RuntimeHandle>, prefetch_bytes: usize) -> Self {
        Self { prefetch_bytes, given, own: OnceLock::new() }
    }

    /// The session's bound on what waits ahead of a consumer.
    pub(crate) fn prefetch_bytes(&self) -> usize {
        self.prefetch_bytes
    }

    pub(crate) fn runtime(&self) -> Result<RuntimeHandle> {
        if let Some(given) = &self.given {
            return Ok(given.clone());
        }
        let start = || Runtime::start().map_err(|error| DataError::Workers(error).shared());
        match self.own.get_or_init(start) {
            Ok(runtime) => Ok(runtime.handle()),
            Err(error) => Err(DataError::Shared(error.clone())),
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        let Some(Ok(runtime)) = self.own.take() else { return };
        // Ending it joins its threads, which a thread of a runtime, perhaps one of these, must not wait for.
        if tokio::runtime::Handle::try_current().is_ok() {
            let _ = std::thread::Builder::new().name("air-data-end".to_owned()).spawn(move || drop(runtime));
        } else {
            drop(runtime);
        }
    }
}
