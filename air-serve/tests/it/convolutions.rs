//! Convolutions of images by our own evaluator answer as ONNX Runtime does.

use air_serve::onnx::{self, Value};
use ndarray::{ArrayD, IxDyn};

use crate::answers::{assert_close, examples};
use crate::fixtures;

#[test]
fn strides_padding_dilation_and_groups_are_the_same() {
    let all = examples("conv.json");
    assert_eq!(all.len(), 5);
    for (name, example) in all {
        let graph = onnx::load(fixtures(&format!("{name}.onnx"))).unwrap();
        let answer = graph.run(vec![Value::F32(example.inputs[0].floats())]).unwrap().remove(0);
        let Value::F32(answer) = answer else { panic!("{name}: not floats") };
        assert_close(&name, &answer, &example.outputs[0].numbers(), |_| 1e-5);
    }
}

#[test]
fn images_that_do_not_fit_are_refused() {
    let graph = onnx::load(fixtures("conv_plain.onnx")).unwrap();
    let why =
        |shape: &[usize]| graph.run(vec![Value::F32(ArrayD::zeros(IxDyn(shape)))]).unwrap_err().to_string();
    let planes = why(&[1, 3, 6, 5]);
    assert!(planes.contains("[?, 2, 6, 5]"), "{planes}");
    // Without images there is nothing to do.
    let none = graph.run(vec![Value::F32(ArrayD::zeros(IxDyn(&[0, 2, 6, 5])))]).unwrap();
    assert!(matches!(&none[0], Value::F32(y) if y.shape() == [0, 4, 4, 3]));
}

/// One node `y = Conv(x, w)` over inputs of any shape, as protobuf writes it.
fn conv(attributes: &[u8]) -> Vec<u8> {
    let field = |number: u8, bytes: &[u8]| [&[number << 3 | 2, bytes.len() as u8], bytes].concat();
    let port = |name: &str| {
        let float = field(1, &[1 << 3, 1]); // an elem_type of 1
        [field(1, name.as_bytes()), field(2, &float)].concat()
    };
    let node =
        [field(1, b"x"), field(1, b"w"), field(2, b"y"), field(4, b"Conv"), attributes.to_vec()].concat();
    let graph =
        [field(1, &node), field(11, &port("x")), field(11, &port("w")), field(12, &port("y"))].concat();
    [vec![1 << 3, 8], field(7, &graph), field(8, &[2 << 3, 17])].concat()
}

/// A node's attribute of whole numbers.
fn ints(name: &str, values: &[u8]) -> Vec<u8> {
    let values: Vec<u8> = values.iter().flat_map(|&value| [8 << 3, value]).collect();
    let kind = [0xa0, 1, 7]; // field 20, the type, is INTS
    let attribute =
        [vec![1 << 3 | 2, name.len() as u8], name.as_bytes().to_vec(), values, kind.to_vec()].concat();
    [vec![5 << 3 | 2, attribute.len() as u8], attribute].concat()
}

#[test]
fn what_a_file_claims_of_its_kernels_is_checked() {
    let kernel = ints("kernel_shape", &[3, 3]);
    let load = |more: &[u8]| onnx::from_bytes(&conv(&[&kernel[..], more].concat()));
    let why = |more: &[u8]| load(more).unwrap_err().to_string();
    assert!(why(&ints("strides", &[0, 1])).contains("attribute strides is [0, 1], not 2 numbers from 1 to"));
    assert!(why(&ints("pads", &[1, 1])).contains("attribute pads is [1, 1], not 4 numbers from 0 to"));

    let graph = load(&[]).unwrap();
    let run = |x: &[usize], w: &[usize]| {
        let zeros = |shape: &[usize]| Value::F32(ArrayD::zeros(IxDyn(shape)));
        graph.run(vec![zeros(x), zeros(w)]).map_err(|error| error.to_string())
    };
    assert!(run(&[1, 2, 5, 5], &[4, 2, 3, 3]).is_ok());
    let narrow = run(&[1, 2, 5, 2], &[4, 2, 3, 3]).unwrap_err();
    assert!(narrow.contains("reaches over 3 does not fit an image of 2 along axis 3"), "{narrow}");
    let other = run(&[1, 2, 5, 5], &[4, 3, 3, 3]).unwrap_err();
    assert!(other.contains("do not fit images [1, 2, 5, 5]"), "{other}");
    assert!(run(&[1, 2, 5, 5], &[4, 2, 2, 3]).unwrap_err().contains("do not fit images"));
    assert!(run(&[2, 5, 5], &[4, 2, 3, 3]).unwrap_err().contains("expected images of 4 axes"));
    assert!(run(&[1, 0, 5, 5], &[0, 0, 3, 3]).is_ok());
}

#[test]
#[cfg(not(any(feature = "tract", feature = "onnxruntime")))]
fn convolutions_of_other_than_images_are_named_as_not_supported() {
    let line = onnx::from_bytes(&conv(&ints("kernel_shape", &[3]))).unwrap_err().to_string();
    assert!(line.contains("ai.onnx.Conv"), "{line}");
}
