//! Train a policy, serve it from its checkpoint, play with it over HTTP; and beside it a network from a safetensors file.
//!
//!     cargo run --release -p air-serve --example serve_policy

use air_core::BoxError;
use air_core::checkpoint::{CheckpointStore, Retention};
use air_core::storage::Storage;
use air_rl::{Algorithm, Policy, Ppo, PpoConfig, Registry, Stop};
use air_serve::{App, Deployment, Model, each, run};
use air_train::nn::{Mlp, Scratch};

/// A network answers a whole batch in one pass.
struct Network {
    mlp: Mlp,
    scratch: Scratch,
}

impl Model for Network {
    type In = Vec<f32>;
    type Out = Vec<f32>;

    fn predict(&mut self, batch: Vec<Vec<f32>>) -> Result<Vec<Vec<f32>>, BoxError> {
        let rows = batch.concat();
        let outputs = self.mlp.infer(&rows, batch.len(), &mut self.scratch)?;
        Ok(outputs.chunks(self.mlp.outputs()).map(<[f32]>::to_vec).collect())
    }
}

fn main() -> Result<(), BoxError> {
    let directory = tempfile::tempdir()?;
    let location =
        directory.path().to_str().ok_or("the temporary directory has no name in UTF-8")?.to_owned();

    // Until 100 episodes in a row have balanced the pole for 475 steps in the mean: less than a second.
    let mut ppo = Ppo::new(PpoConfig::default(), Registry::default().spec("CartPole-v1")?, 1)?;
    let outcome = ppo.train_until(&Stop::at_return(475.0))?;
    println!("trained {} steps", outcome.last.steps);
    ppo.save(&CheckpointStore::open(Storage::open(&location)?, Retention::newest(1))?)?;

    // Each replica loads the policy; so does each that takes its place.
    let act = Deployment::new("cartpole", move || {
        let policy = Policy::load(&location)?;
        Ok(each(move |observation: Vec<f32>| Ok(policy.act(&observation)?)))
    });
    let bytes = air_train::nn::save_safetensors(ppo.policy().actor())?;
    let logits = Deployment::new("logits", move || {
        Ok(Network { mlp: Mlp::from_safetensors(&bytes)?, scratch: Scratch::default() })
    });
    let server = run(App::new().with_http(|http| http.port = 0).route("/act", act).route("/logits", logits))?;
    let ask = |path: &str, body: &str| -> Result<String, BoxError> {
        let url = format!("http://{}{path}", server.addr());
        Ok(ureq::post(&url).send(body)?.body_mut().read_to_string()?)
    };

    let observation = "[0.02,0.9,0.1,0.4]";
    let action = ask("/act", observation)?;
    println!("act     {observation}  ->  {action}");
    assert!(action == "0" || action == "1");
    println!("logits  {observation}  ->  {}", ask("/logits", observation)?);
    Ok(())
}
