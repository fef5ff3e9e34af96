//! Serve a scikit-learn model: load it, put it behind a route, ask it.
//!
//!     cargo run --release -p air-serve --example serve_quickstart
//!
//! The model is a gradient-boosting classifier trained on iris; `examples/data/train_iris.py` made the file.

use std::path::Path;

use air_core::BoxError;
use air_serve::onnx::{OnnxAnswer, OnnxModel, OnnxRequest, Vector};
use air_serve::{App, Deployment, run};

fn main() -> Result<(), BoxError> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/data/iris_gbc.onnx");
    let model = OnnxModel::load(file)?.with_names(["setosa", "versicolor", "virginica"])?;

    // Two replicas share the model's memory. Port 0 takes any port that is free.
    let iris = Deployment::onnx("iris", model).with(|config| config.num_replicas = 2);
    let server = run(App::new().with_http(|http| http.port = 0).route("/iris", iris))?;
    let url = format!("http://{}/iris", server.addr());
    println!("serving {url}");

    // Over HTTP, with GET and a body, and with POST.
    let body = r#"{"vector": [1.2, 1.0, 1.1, 0.9]}"#;
    let answer = ureq::get(&url).force_send_body().send(body)?.body_mut().read_to_string()?;
    println!("GET   {body}  ->  {answer}");
    assert_eq!(answer, r#"{"result":"versicolor"}"#);
    let answer = ureq::post(&url).send(body)?.body_mut().read_to_string()?;
    println!("POST  {body}  ->  {answer}");

    // Within the process: no socket, no JSON.
    let handle = server.handle::<OnnxRequest, OnnxAnswer>("iris")?;
    let answer = handle.call_blocking(Vector { vector: vec![5.1, 3.5, 1.4, 0.2] }.into())?;
    println!("call  [5.1, 3.5, 1.4, 0.2]  ->  {:?}", answer.prediction().map(|answer| answer.result));

    // Finishes what is under way; dropping the server does the same.
    server.shutdown();
    Ok(())
}
