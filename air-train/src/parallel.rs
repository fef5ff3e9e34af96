//! [`DataParallel`]: a model whose gradients are averaged over all ranks.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;

use air_core::collective::{Collective, ReduceOp};

use crate::Result;
use crate::nn::{Module, Optimizer};

/// A model on one rank of several. It is the model (by `Deref`), plus [`step`](Self::step).
///
/// All ranks start from the same parameters and apply the same averaged gradients, so their parameters stay equal to the bit.
pub struct DataParallel<M> {
    model: M,
    collective: Rc<RefCell<Collective>>,
}

impl<M: Module> DataParallel<M> {
    pub(crate) fn new(mut model: M, collective: Rc<RefCell<Collective>>) -> Result<Self> {
        collective.borrow_mut().broadcast(model.params_mut(), 0)?;
        Ok(Self { model, collective })
    }

    /// Replaces the gradients by their mean over all ranks. Every rank calls it, after `backward`.
    pub fn sync_grads(&mut self) -> Result<()> {
        let mut collective = self.collective.borrow_mut();
        if collective.world() > 1 {
            collective.all_reduce(self.model.grads_mut(), ReduceOp::Mean)?;
        }
        Ok(())
    }

    /// Averages the gradients over all ranks, lets `optimizer` make a step, and sets the gradients to zero.
    pub fn step(&mut self, optimizer: &mut impl Optimizer) -> Result<()> {
        self.sync_grads()?;
        let (params, grads) = self.model.params_and_grads();
        optimizer.step(params, grads)?;
        self.model.zero_grads();
        Ok(())
    }

    /// The model itself.
    pub fn into_inner(self) -> M {
        self.model
    }
}

impl<M> Deref for DataParallel<M> {
    type Target = M;

    fn deref(&self) -> &M {
        &self.model
    }
}

impl<M> DerefMut for DataParallel<M> {
    fn deref_mut(&mut self) -> &mut M {
        &mut self.model
    }
}

impl<M: std::fmt::Debug> std::fmt::Debug for DataParallel<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DataParallel").field("model", &self.model).finish_non_exhaustive()
    }
}
