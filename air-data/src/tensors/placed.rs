//! [`Placed`]: batches on a device, one ahead of who takes them.

use std::collections::VecDeque;

use air_core::BoxError;
use air_core::data::Batch;
use air_core::device::{Device, Stream};

use crate::error::{DataError, Result};

/// Batches sent or on their way: the one that is taken next, and one to send meanwhile.
const AHEAD: usize = 2;

/// Sends batches to a device before they are asked for.
#[derive(Debug)]
pub(super) struct Placed {
    stream: Stream,
    sent: VecDeque<std::result::Result<Batch, BoxError>>,
    ended: bool,
}

impl Placed {
    pub(super) fn on(device: Device) -> Result<Self> {
        let stream =
            Stream::new(device).map_err(|source| DataError::Device { device, source: source.into() })?;
        Ok(Self { stream, sent: VecDeque::new(), ended: false })
    }

    /// The next of the batches that `next` gives, on the device.
    pub(super) fn next_batch(
        &mut self,
        mut next: impl FnMut() -> std::result::Result<Option<Batch>, BoxError>,
    ) -> std::result::Result<Option<Batch>, BoxError> {
        while !self.ended && self.sent.len() < AHEAD {
            match next().and_then(|batch| batch.map(|batch| self.send(&batch)).transpose()) {
                Ok(Some(batch)) => self.sent.push_back(Ok(batch)),
                Ok(None) => self.ended = true,
                // It has its turn after what was sent before it.
                Err(error) => {
                    self.sent.push_back(Err(error));
                    self.ended = true;
                }
            }
        }
        self.sent.pop_front().transpose()
    }

    /// Forgets what was sent, before another epoch.
    pub(super) fn restart(&mut self) {
        self.sent.clear();
        self.ended = false;
    }

    /// The copy is under way when this returns; work with the tensors, on any stream, waits for it.
    fn send(&self, batch: &Batch) -> std::result::Result<Batch, BoxError> {
        let columns =
            batch.columns().iter().map(|(name, tensor)| Ok((name.clone(), self.stream.upload(tensor)?)));
        Ok(Batch::new(columns.collect::<std::result::Result<_, BoxError>>()?)?)
    }
}
