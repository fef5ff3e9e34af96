//! Putting and getting objects.

use std::time::Instant;

use crate::error::Result;
use crate::object::ObjectConfig;
use crate::tensor::Tensor;
use crate::{CoreError, Runtime, RuntimeConfig};

/// Seconds to put a tensor of so many 8-byte elements and to get it again.
pub(super) fn put_get(elements: usize, rounds: u32) -> Result<f64> {
    // Memory enough for anything: nothing is to go to disk here.
    let objects = ObjectConfig::default().memory_bytes(usize::MAX);
    let runtime = Runtime::with(RuntimeConfig::default().objects(objects))?;
    let tensor = Tensor::zeros::<i64>(&[elements])?;
    let mut seen = 0;
    let began = Instant::now();
    for _ in 0..rounds {
        let object = runtime.put(tensor.clone()).map_err(CoreError::from)?;
        seen += usize::from(object.get()?.shares_memory_with(&tensor));
    }
    let took = began.elapsed().as_secs_f64() / f64::from(rounds);
    // A copy makes the figure worthless.
    Ok(if seen == rounds as usize { took } else { f64::INFINITY })
}
