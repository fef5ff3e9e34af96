//! A parameter server: one worker holds the weights of a linear model, four others pull them, push gradients, and wait for nobody.
//! `cargo run --release -p air-core --example parameter_server`
//!
//! Weights and gradients travel as tensor handles: nothing is copied on the way, unless the server changes weights that somebody still looks at.

use air_core::seed::Seed;
use air_core::tensor::Tensor;
use air_core::{BoxError, Cx, GroupSpec, Handle, Mailbox, Message, Runtime, Spec, Worker};
use rand::RngExt;

const FEATURES: usize = 1000;
const ROWS: usize = 64;

struct Server {
    weights: Tensor,
}
impl Worker for Server {}

/// Asks for the weights as they are now.
struct Pull;
impl Message for Pull {
    type Reply = Tensor;
}

/// A gradient, to be applied at once.
struct Push(Tensor);
impl Message for Push {
    type Reply = ();
}

impl Handle<Pull> for Server {
    fn handle(&mut self, _: Pull, _: &mut Cx<Self>) -> Result<Tensor, BoxError> {
        Ok(self.weights.clone())
    }
}

impl Handle<Push> for Server {
    fn handle(&mut self, Push(gradient): Push, _: &mut Cx<Self>) -> Result<(), BoxError> {
        self.weights.make_unique()?;
        let weights = self.weights.as_slice_mut::<f32>()?;
        weights.iter_mut().zip(gradient.as_slice::<f32>()?).for_each(|(w, g)| *w -= 0.5 * g);
        Ok(())
    }
}

/// One worker's rows of `label = sum(row)`: the weights to find are all 1.
struct Trainer {
    rows: Vec<f32>,
    labels: Vec<f32>,
    server: Mailbox<Server>,
}
impl Worker for Trainer {}

/// So many steps; the reply is the mean loss of the last.
#[derive(Clone)]
struct Train(usize);
impl Message for Train {
    type Reply = f32;
}

impl Handle<Train> for Trainer {
    fn handle(&mut self, Train(steps): Train, _: &mut Cx<Self>) -> Result<f32, BoxError> {
        let mut loss = 0.0;
        for _ in 0..steps {
            let weights = self.server.ask_blocking(Pull)?;
            let (weights, mut gradient) = (weights.as_slice::<f32>()?, vec![0.0; FEATURES]);
            loss = 0.0;
            for (row, label) in self.rows.chunks(FEATURES).zip(&self.labels) {
                let error = row.iter().zip(weights).map(|(x, w)| x * w).sum::<f32>() - label;
                gradient.iter_mut().zip(row).for_each(|(g, x)| *g += error * x / ROWS as f32);
                loss += error * error / ROWS as f32;
            }
            self.server.tell_blocking(Push(Tensor::from_vec(gradient, &[FEATURES])?))?;
        }
        Ok(loss)
    }
}

/// The mean loss of all workers after each round.
pub fn run(workers: usize, rounds: usize) -> Result<Vec<f32>, BoxError> {
    let runtime = Runtime::start()?;
    let server =
        runtime.spawn(Spec::new("server"), |_| Ok(Server { weights: Tensor::zeros::<f32>(&[FEATURES])? }))?;
    let trainers = runtime.group(GroupSpec::new("trainer", workers), move |rank| {
        let mut rng = Seed::new(0).child("rank", rank.rank as u64).rng();
        let rows: Vec<f32> = (0..ROWS * FEATURES).map(|_| rng.random::<f32>() - 0.5).collect();
        let labels = rows.chunks(FEATURES).map(|row| row.iter().sum()).collect();
        Ok(Trainer { rows, labels, server: server.clone() })
    })?;
    let all = || trainers.gather(trainers.broadcast(&Train(5))).into_iter().sum::<Result<f32, _>>();
    (0..rounds).map(|_| Ok(all()? / workers as f32)).collect()
}

fn main() -> Result<(), BoxError> {
    run(4, 10)?.iter().enumerate().for_each(|(round, loss)| println!("round {round}: loss {loss}"));
    Ok(())
}
