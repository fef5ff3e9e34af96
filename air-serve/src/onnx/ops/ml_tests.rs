//! Support vector machines and trees of version 5 that say what cannot be: each is refused when it is loaded, by what is wrong with it.
#![allow(clippy::unwrap_used)]

use prost::Message as _;

use super::build;
use crate::onnx::node::Node;
use crate::onnx::proto::{Attribute, Model, Node as NodeProto, Tensor};

/// The first node of a file that is good.
fn good(name: &str) -> NodeProto {
    let path = format!("{}/tests/fixtures/{name}.onnx", env!("CARGO_MANIFEST_DIR"));
    let model = Model::decode(&*std::fs::read(path).unwrap()).unwrap();
    model.graph.unwrap().node.swap_remove(0)
}

fn attribute<'a>(node: &'a mut NodeProto, name: &str) -> &'a mut Attribute {
    node.attribute.iter_mut().find(|attribute| attribute.name.as_deref() == Some(name)).unwrap()
}

fn without(mut node: NodeProto, name: &str) -> NodeProto {
    node.attribute.retain(|attribute| attribute.name.as_deref() != Some(name));
    node
}

fn ints(mut node: NodeProto, name: &str, change: impl FnOnce(&mut Vec<i64>)) -> NodeProto {
    change(&mut attribute(&mut node, name).ints);
    node
}

fn floats(mut node: NodeProto, name: &str, change: impl FnOnce(&mut Vec<f32>)) -> NodeProto {
    change(&mut attribute(&mut node, name).floats);
    node
}

fn int(mut node: NodeProto, name: &str, value: i64) -> NodeProto {
    attribute(&mut node, name).i = Some(value);
    node
}

fn text(mut node: NodeProto, name: &str, value: &str) -> NodeProto {
    attribute(&mut node, name).s = Some(value.as_bytes().to_vec());
    node
}

fn tensor(mut node: NodeProto, name: &str, change: impl FnOnce(&mut Tensor)) -> NodeProto {
    change(attribute(&mut node, name).t.as_mut().unwrap());
    node
}

/// A tensor of `f32` loses its last element.
fn shorter(tensor: &mut Tensor) {
    tensor.dims[0] -= 1;
    let raw = tensor.raw_data.as_mut().unwrap();
    raw.truncate(raw.len() - 4);
}

#[track_caller]
fn refused(node: &NodeProto, says: &str) {
    let error = build(&Node::new(node, 5)).err().unwrap().to_string();
    assert!(error.contains(says), "expected {says:?}: {error}");
}

#[test]
fn trees() {
    // Nodes 0 and 1 and 3 lead to leaves, 0 and 2 to nodes; nodes 0, 1 and 3 ask for membership.
    let node = || good("five_members");
    assert!(build(&Node::new(&node(), 5)).is_ok());
    refused(&without(node(), "nodes_splits"), "it has no nodes_splits");
    refused(&without(node(), "nodes_modes"), "it has no nodes_modes");
    refused(&without(node(), "leaf_weights"), "it has no leaf_weights");
    refused(&without(node(), "tree_roots"), "it has no tree_roots");
    refused(
        &without(node(), "membership_values"),
        "membership_values has 0 sets, each ended by a NaN, for 3 branches",
    );
    refused(&tensor(node(), "nodes_splits", shorter), "nodes_splits has 3 entries for 4 nodes");
    refused(&tensor(node(), "leaf_weights", shorter), "leaf_targetids has 5 entries for 4 leaf_weights");
    refused(
        &tensor(node(), "nodes_modes", |it| it.raw_data.as_mut().unwrap()[2] = 7),
        "node 2 has the unknown mode 7",
    );
    refused(
        &tensor(node(), "nodes_modes", |it| it.raw_data.as_mut().unwrap()[2] = 6),
        "3 sets, each ended by a NaN, for 4 branches",
    );
    refused(&tensor(node(), "nodes_splits", |it| it.dims[0] = -4), "dimension -4 is negative");
    refused(
        &ints(node(), "nodes_truenodeids", |it| it[0] = 4),
        "there is no node 4 of 4, which node 0 leads to",
    );
    refused(&ints(node(), "nodes_truenodeids", |it| it[0] = -1), "there is no node -1 of 4");
    refused(&ints(node(), "nodes_truenodeids", |it| it[0] = 2), "two branches lead to one node");
    refused(&ints(node(), "nodes_falsenodeids", |it| it[2] = 2), "two branches lead to one node");
    refused(&ints(node(), "nodes_truenodeids", |it| it[1] = 5), "there is no leaf 5 of 5");
    refused(&ints(node(), "nodes_featureids", |it| it[0] = -1), "feature -1 is out of range");
    refused(
        &ints(node(), "nodes_trueleafs", |it| it.truncate(it.len() - 1)),
        "nodes_trueleafs has 3 entries for 4 nodes",
    );
    refused(&ints(node(), "leaf_targetids", |it| it[0] = 1), "a leaf is of target 1 of 1");
    refused(&ints(node(), "tree_roots", |it| it[0] = 4), "there is no node 4 of 4, which is to be a root");
    refused(&ints(node(), "tree_roots", |it| it.push(0)), "two branches lead to one node");
    refused(&int(node(), "n_targets", 0), "n_targets is 0");
    refused(&int(good("five_average"), "aggregate_function", 4), "unknown aggregate_function 4");
    refused(&int(good("five_softmax"), "post_transform", 5), "unknown post_transform 5");
}

#[test]
fn machines() {
    let node = || good("svc_pairs");
    let attributes =
        |name: &str| node().attribute.into_iter().find(|it| it.name.as_deref() == Some(name)).unwrap();
    let vectors: i64 = attributes("vectors_per_class").ints.iter().sum();
    assert!(build(&Node::new(&node(), 3)).is_ok());
    refused(&without(node(), "classlabels_ints"), "it has no class labels");
    refused(&text(node(), "kernel_type", "COSINE"), "unknown kernel_type COSINE");
    refused(
        &floats(node(), "kernel_params", |it| it.truncate(it.len() - 1)),
        "kernel_params has 2 numbers, expected gamma, coef0 and degree",
    );
    refused(&without(node(), "kernel_params"), "kernel_params has 0 numbers");
    refused(&text(node(), "post_transform", "LOG"), "unknown post_transform LOG");
    refused(
        &ints(node(), "vectors_per_class", |it| it.truncate(it.len() - 1)),
        "vectors_per_class has 2 entries for 3 classes",
    );
    refused(&ints(node(), "vectors_per_class", |it| it[0] = -1), "vectors_per_class has -1");
    refused(&ints(node(), "vectors_per_class", |it| it[0] = i64::MAX), "support vectors, which are too many");
    refused(
        &floats(node(), "coefficients", |it| it.truncate(it.len() - 1)),
        &format!("coefficients has {} numbers, expected {}", 2 * vectors - 1, 2 * vectors),
    );
    refused(&floats(node(), "rho", |it| it.push(1.0)), "rho has 4 numbers, expected 3");
    refused(
        &floats(node(), "support_vectors", |it| it.truncate(it.len() - 1)),
        &format!("are not {vectors} vectors"),
    );
    refused(
        &floats(good("svc_rbf_names"), "prob_b", |it| it.truncate(it.len() - 1)),
        "prob_b has 2 numbers, expected 3",
    );
    refused(&text(good("svc_two"), "post_transform", "PROBIT"), "not defined for one score of two classes");
    refused(
        &floats(good("svm_linear"), "coefficients", |it| it.truncate(it.len() - 1)),
        "which are not 3 vectors",
    );
    refused(&without(good("svm_linear"), "rho"), "it has no rho");

    let node = || good("svr_rbf");
    refused(&int(node(), "n_supports", -1), "n_supports is -1");
    refused(&int(node(), "n_supports", 3), "for 3 support vectors");
    refused(&floats(node(), "rho", |it| it.push(1.0)), "rho has 2 numbers, expected one");
    refused(&text(node(), "post_transform", "LOGISTIC"), "the post_transform LOGISTIC is not supported");
    refused(&floats(node(), "support_vectors", |it| it.truncate(it.len() - 1)), "vectors");
}
