//! Fit preprocessors to a dataset, keep them as JSON, and serve them in front of a model: what a request goes through is what the training rows went through.
//!
//!     cargo run --release -p examples --example serve_preprocessed

use air_core::BoxError;
use air_data::agg;
use air_data::preprocess::{Chain, Fitted, Preprocessor, SimpleImputer, StandardScaler, Strategy};
use air_serve::{App, Deployment, Model, run};
use serde::{Deserialize, Serialize};

/// A row of the training data, and a request: what is not known is left out.
#[derive(Debug, Serialize, Deserialize)]
struct Petal {
    #[serde(rename = "petal.length")]
    length: Option<f64>,
    #[serde(rename = "petal.width")]
    width: Option<f64>,
}

/// The mean of a variety, scaled.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Centre {
    variety: String,
    length: f64,
    width: f64,
}

/// Names the variety whose centre is nearest.
struct Nearest {
    prepared: Fitted,
    centres: Vec<Centre>,
}

impl Model for Nearest {
    type In = Petal;
    type Out = String;

    fn predict(&mut self, batch: Vec<Petal>) -> Result<Vec<String>, BoxError> {
        let scaled: Vec<Petal> = self.prepared.transform_items(&batch)?;
        let answers = scaled.iter().map(|petal| {
            let (length, width) = (petal.length.unwrap_or(0.0), petal.width.unwrap_or(0.0));
            let distance = |centre: &Centre| (centre.length - length).hypot(centre.width - width);
            let nearest = self.centres.iter().min_by(|a, b| distance(a).total_cmp(&distance(b)));
            nearest.map_or_else(String::new, |centre| centre.variety.clone())
        });
        Ok(answers.collect())
    }
}

fn main() -> Result<(), BoxError> {
    let petal = ["petal.length", "petal.width"];
    let iris = air_data::read_csv(concat!(env!("CARGO_MANIFEST_DIR"), "/data/iris.csv"))?;
    let chain = Chain::new().then(SimpleImputer::new(petal, Strategy::Mean)).then(StandardScaler::new(petal));
    let (fitted, scaled) = chain.fit_transform(&iris)?;
    let means = [agg::mean("petal.length").alias("length"), agg::mean("petal.width").alias("width")];
    let centres: Vec<Centre> = scaled.group_by(["variety"]).aggregate(means).sort(["variety"]).take_all()?;

    // What was learnt is text: it goes into a file, and each replica reads it.
    let json = fitted.to_json();
    let nearest = Deployment::new("nearest", move || {
        Ok(Nearest { prepared: Fitted::from_json(&json)?, centres: centres.clone() })
    });
    let server = run(App::new().with_http(|http| http.port = 0).route("/variety", nearest))?;
    let ask = |body: &str| -> Result<String, BoxError> {
        let url = format!("http://{}/variety", server.addr());
        let answer = ureq::post(&url).send(body)?.body_mut().read_to_string()?;
        println!("{body}  ->  {answer}");
        Ok(answer)
    };
    assert_eq!(ask(r#"{"petal.length": 1.4, "petal.width": 0.2}"#)?, "\"Setosa\"");
    assert_eq!(ask(r#"{"petal.length": 6.6}"#)?, "\"Virginica\"");
    assert_eq!(ask("{}")?, "\"Versicolor\"");
    Ok(())
}
