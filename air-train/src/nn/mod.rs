//! Native networks, dense and convolutional: layers with hand-written backward over one flat parameter buffer and one flat gradient buffer.
//!
//! There is no graph and no tape. A step is `forward`, a loss that writes the gradient of the outputs, `backward`, and an
//! optimiser over two slices; after the first call with a batch size nothing is allocated.
//!
//! ```
//! use air_core::seed::Seed;
//! use air_train::nn::{Activation, Mlp, MlpConfig, Module, Optimizer, Sgd, mse};
//!
//! let config = MlpConfig { sizes: vec![2, 16, 1], hidden: Activation::Tanh, ..MlpConfig::default() };
//! let mut net = Mlp::new(&config, Seed::new(7))?;
//! let (x, y) = ([0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0], [0.0, 1.0, 1.0, 0.0]); // exclusive or
//! let (mut sgd, mut d, mut loss) = (Sgd::new(0.1, 0.9), [0.0; 4], f32::MAX);
//! for _ in 0..500 {
//!     loss = mse(net.forward(&x, 4)?, &y, &mut d)?;
//!     net.zero_grads();
//!     net.backward(&d)?;
//!     let (params, grads) = net.params_and_grads();
//!     sgd.step(params, grads)?;
//! }
//! assert!(loss < 0.01);
//! # Ok::<(), air_train::TrainError>(())
//! ```
//!
//! All matrices are row-major `f32`. A layer's weights are `[inputs, outputs]`, followed by its `outputs` biases and,
//! where it is normalised, as many gains and offsets; layers follow one another. A convolution's inputs are what its kernel sees at one place. On one machine, one seed and one thread count give the same bits.

// What a dispatched kernel calls must be inlined into it, or it loses the instructions it was dispatched for.
#[allow(clippy::inline_always, clippy::needless_for_each)]
mod activation;
mod conv;
#[allow(clippy::inline_always)]
mod gemm;
#[allow(clippy::inline_always)]
mod gru;
mod init;
#[allow(clippy::inline_always, clippy::needless_for_each)]
mod layer_norm;
#[allow(clippy::inline_always, clippy::needless_for_each)]
mod loss;
#[allow(clippy::inline_always)]
mod math;
mod mlp;
#[allow(clippy::needless_for_each)]
mod optim;
mod rows;
mod save;
mod schedule;
mod share;

pub use activation::Activation;
pub use conv::Window;
pub use gru::{Gru, GruScratch};
pub use init::Init;
pub use layer_norm::EPS as LAYER_NORM_EPS;
pub use loss::{accuracy, mse, softmax, softmax_cross_entropy};
pub use mlp::{LayerShape, Mlp, MlpConfig, Scratch};
pub use optim::{Adam, Optimizer, Sgd, clip_grad_norm};
pub use save::{load_safetensors, save_safetensors};
pub use schedule::Schedule;

/// Anything that exposes its parameters and gradients as two flat slices of one length.
///
/// Data-parallel training needs nothing else of a model, so a network of another framework takes part by implementing this.
pub trait Module {
    /// All parameters, in a fixed order.
    fn params(&self) -> &[f32];
    /// All parameters, to be changed in place.
    fn params_mut(&mut self) -> &mut [f32];
    /// The gradient of each parameter, in the same order.
    fn grads(&self) -> &[f32];
    /// The gradients, to be changed in place.
    fn grads_mut(&mut self) -> &mut [f32];
    /// Both at once, for an optimiser's step.
    fn params_and_grads(&mut self) -> (&mut [f32], &[f32]);

    /// Sets every gradient to zero; `backward` adds to what is there.
    fn zero_grads(&mut self) {
        self.grads_mut().fill(0.0);
    }
}

/// An error unless `got` is `expected`.
pub(crate) fn expect(what: &'static str, expected: usize, got: usize) -> crate::Result<()> {
    if expected == got { Ok(()) } else { Err(crate::TrainError::Shape { what, expected, got }) }
}
