//! Serve three models behind one route: one computes features, two score them side by side, and an async one puts it together.
//!
//!     cargo run --release -p air-serve --example serve_composition

use air_core::BoxError;
use air_serve::{App, Deployment, RequestContext, each, each_async, run};

fn main() -> Result<(), BoxError> {
    // Each is a deployment of its own: with its replicas, its queue, its updates.
    let features = Deployment::new("features", || {
        Ok(each(|text: String| {
            let words = text.split_whitespace().count() as f64;
            Ok(vec![words, text.len() as f64 / words.max(1.0)])
        }))
    });
    let score = |name: &'static str, weights: [f64; 2]| {
        Deployment::new(name, move || {
            Ok(each(move |features: Vec<f64>| {
                Ok(features.iter().zip(weights).map(|(x, w)| x * w).sum::<f64>())
            }))
        })
    };
    let (length, style) = (score("length", [1.0, 0.0]), score("style", [0.1, 1.0]));

    // Handles can be had before anything runs. What they lead to starts first, and ends last.
    let handles = (features.handle(), length.handle(), style.handle());
    let review = Deployment::composed("review", handles, |(features, length, style)| {
        Ok(each_async(move |text: String| {
            let (features, length, style) = (features.clone(), length.clone(), style.clone());
            async move {
                let features = features.call(text).await?;
                let (length, style) =
                    futures::future::try_join(length.call(features.clone()), style.call(features)).await?;
                // Every call has the request's id and what is left of its time.
                println!("request {:?}: {length} {style}", RequestContext::current().id);
                Ok(length + style)
            }
        }))
    });
    let app = App::new().with_http(|http| http.port = 0).deploy(features).deploy(length).deploy(style);
    let server = run(app.route("/review", review))?;
    let url = format!("http://{}/review", server.addr());

    let answer = ureq::post(&url)
        .header("x-request-id", "r-1")
        .send("\"a short text\"")?
        .body_mut()
        .read_to_string()?;
    println!("{url}  ->  {answer}");
    assert_eq!(answer, "7.3");
    server.shutdown();
    Ok(())
}
