//! What the small pixel games share: planes of zeros and ones.

use air_core::BoxError;

use crate::env::space::Space;
use crate::error::RlError;

/// Rows and columns.
pub(super) const SIDE: usize = 10;

/// `planes` planes of 10 × 10 pixels, each 0 or 1.
pub(super) fn space(planes: usize) -> Space {
    let items = planes * SIDE * SIDE;
    Space::Box { low: vec![0.0; items], high: vec![1.0; items], shape: vec![planes, SIDE, SIDE] }
}

/// The observation, cleared, to be drawn on.
pub(super) struct Screen<'a>(&'a mut [f32]);

impl<'a> Screen<'a> {
    pub(super) fn clear(obs: &'a mut [f32], planes: usize) -> Result<Self, BoxError> {
        let (got, expected) = (obs.len(), planes * SIDE * SIDE);
        if got != expected {
            return Err(Box::new(RlError::Shape { what: "observation row", got, expected }));
        }
        obs.fill(0.0);
        Ok(Self(obs))
    }

    pub(super) fn light(&mut self, plane: usize, row: usize, column: usize) {
        self.0[(plane * SIDE + row) * SIDE + column] = 1.0;
    }
}
