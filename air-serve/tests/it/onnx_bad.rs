//! Model files that lie: an error or a model, never a panic, a hang or a huge allocation.

use air_serve::onnx::{OnnxError, OnnxModel, Vector, from_bytes};
use proptest::prelude::*;

use crate::{examples, fixtures};

fn files() -> Vec<Vec<u8>> {
    [
        "mlp_two_tanh",
        "gbc_names_zipmap",
        "logistic_three",
        "forest_two",
        "min_max_logistic",
        "pipe_one_hot",
        "pipe_ordinal",
        "pipe_quantile",
        "pipe_isolation",
        "pipe_one_vs_rest",
        "five_members",
        "five_double",
        "svc_poly_four",
        "svr_rbf",
        "svm_linear_two",
    ]
    .iter()
    .map(|name| std::fs::read(fixtures(&format!("{name}.onnx"))).unwrap())
    .collect()
}

#[test]
fn a_file_cut_anywhere_is_refused_or_still_a_model() {
    let file = std::fs::read(examples("iris_gbc.onnx")).unwrap();
    let mut refused = 0;
    for end in (0..file.len()).step_by(997).chain(file.len() - 40..file.len()) {
        match from_bytes(&file[..end]) {
            Err(OnnxError::NotOnnx { offset, .. }) => {
                assert!(offset <= end);
                refused += 1;
            }
            Err(OnnxError::Graph { .. } | OnnxError::Unsupported { .. } | OnnxError::Node { .. }) | Ok(_) => {
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    assert!(refused > 100, "{refused}");
}

#[test]
fn an_unknown_operator_is_named_at_load_time() {
    let mut file = std::fs::read(fixtures("mlp_two_tanh.onnx")).unwrap();
    let places: Vec<usize> = (0..file.len() - 4).filter(|&at| &file[at..at + 4] == b"Tanh").collect();
    for at in places {
        file[at..at + 4].copy_from_slice(b"Tonh");
    }
    let error = from_bytes(&file).unwrap_err();
    match &error {
        OnnxError::Unsupported { operator, .. } => assert_eq!(operator, "ai.onnx.Tonh"),
        other => panic!("{other:?}"),
    }
    assert!(error.to_string().contains("node `"), "{error}");
}

#[test]
fn files_of_other_kinds_are_not_models() {
    for bytes in [
        &b"PK\x03\x04 a zip"[..],
        b"\x89HDF\r\n\x1a\n",
        b"{\"json\": true}",
        b"\x80\x04\x95 a pickle",
        &[0; 64],
    ] {
        assert!(from_bytes(bytes).is_err(), "{bytes:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Whatever is done to a file's bytes, loading it and asking it something ends in order.
    #[test]
    fn mutated_files_never_panic(
        which in 0..15usize,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        cut in prop::option::of(any::<prop::sample::Index>()),
        vector in prop::collection::vec(prop_oneof![any::<f64>(), -10.0..10.0], 0..6),
    ) {
        let mut file = files().swap_remove(which);
        for (at, byte) in changes {
            let at = at.index(file.len());
            file[at] = byte;
        }
        if let Some(cut) = cut {
            file.truncate(cut.index(file.len()));
        }
        if let Ok(graph) = from_bytes(&file)
            && let Ok(model) = OnnxModel::new(graph)
        {
            let _ = model.with_scores(true).predict(&[Vector { vector }]);
        }
    }
}
