//! Every exported fixture answers as scikit-learn does.

use air_serve::onnx::{OnnxModel, Prediction, Vector};
use serde::Deserialize;

use crate::{examples, fixtures};

#[derive(Deserialize)]
struct Iris {
    labels: Vec<String>,
    points: Vec<IrisPoint>,
}

#[derive(Deserialize)]
struct IrisPoint {
    vector: Vec<f64>,
    class: usize,
    probabilities: Vec<f64>,
}

fn close(got: &[f32], want: &[f64], within: f64) -> bool {
    got.len() == want.len()
        && got
            .iter()
            .zip(want)
            .all(|(got, want)| (f64::from(*got) - want).abs() <= within * want.abs().max(1.0))
}

#[test]
fn iris_answers_as_scikit_learn_on_every_row_and_on_odd_points() {
    let iris: Iris =
        serde_json::from_str(&std::fs::read_to_string(examples("iris_expected.json")).unwrap()).unwrap();
    let model = OnnxModel::load(examples("iris_gbc.onnx"))
        .unwrap()
        .with_names(&iris.labels)
        .unwrap()
        .with_scores(true);
    let batch: Vec<Vector> =
        iris.points.iter().map(|point| Vector { vector: point.vector.clone() }).collect();
    assert_eq!(batch.len(), 160);
    for (point, answer) in iris.points.iter().zip(model.predict(&batch).unwrap()) {
        assert_eq!(
            answer.result,
            Prediction::Name(iris.labels[point.class].as_str().into()),
            "{:?}",
            point.vector
        );
        let scores = answer.scores.unwrap();
        assert!(
            close(&scores, &point.probabilities, 1e-6),
            "{:?}: {scores:?}, not {:?}",
            point.vector,
            point.probabilities
        );
    }
    // The same one at a time.
    let alone = model.predict(&batch[150..151]).unwrap();
    assert_eq!(alone[0].result, Prediction::Name("versicolor".into()));
}

#[derive(Deserialize)]
struct Expected {
    model: String,
    nodes: Vec<String>,
    points: Vec<Vec<Option<f64>>>,
    classes: Option<Vec<serde_json::Value>>,
    numbers: Vec<Vec<f64>>,
}

#[test]
fn every_fixture_answers_as_scikit_learn() {
    answers_as_expected("expected.json", 20, 2e-6);
}

#[test]
fn support_vector_machines_and_trees_of_version_5_answer_as_onnx_runtime() {
    // ONNX Runtime sums over support vectors in `f32`, and is off by so much.
    answers_as_expected("expected_ml.json", 35, 3e-5);
}

fn answers_as_expected(file: &str, at_least: usize, within: f64) {
    let all: Vec<Expected> = serde_json::from_str(&std::fs::read_to_string(fixtures(file)).unwrap()).unwrap();
    assert!(all.len() >= at_least, "{} fixtures", all.len());
    for expected in all {
        let name = &expected.model;
        let model = OnnxModel::load(fixtures(&format!("{name}.onnx"))).unwrap().with_scores(true);
        let vector = |point: &Vec<Option<f64>>| Vector {
            vector: point.iter().map(|x| x.unwrap_or(f64::NAN)).collect(),
        };
        let batch: Vec<Vector> = expected.points.iter().map(vector).collect();
        let answers = model.predict(&batch).unwrap();
        for (row, answer) in answers.iter().enumerate() {
            let context = format!("{name} {:?} row {row}: {:?}", expected.nodes, expected.points[row]);
            let want = &expected.numbers[row];
            if let Some(classes) = &expected.classes {
                assert_eq!(serde_json::to_value(&answer.result).unwrap(), classes[row], "{context}");
                let scores = answer.scores.as_ref().unwrap();
                assert!(close(scores, want, within), "{context}: {scores:?} {want:?}");
            } else {
                let numbers = match &answer.result {
                    Prediction::Number(number) => vec![*number],
                    Prediction::Numbers(numbers) => numbers.clone(),
                    other => panic!("{context}: {other:?}"),
                };
                assert!(close(&numbers, want, within.max(1e-5)), "{context}: {numbers:?} {want:?}");
            }
        }
    }
}
