//! Gradients against finite differences, equal bits for equal seeds, shapes that do not fit, files.

use air_core::seed::Seed;
use air_train::nn::{
    Activation, Adam, Init, LayerShape, Mlp, MlpConfig, Module, Optimizer, Scratch, load_safetensors, mse,
    save_safetensors, softmax_cross_entropy,
};
use rand::RngExt;

fn values(seed: u64, len: usize) -> Vec<f32> {
    let mut rng = Seed::new(seed).rng();
    (0..len).map(|_| rng.random::<f32>() * 2.0 - 1.0).collect()
}

fn net(sizes: &[usize], hidden: Activation, output: Activation) -> Mlp {
    let config = MlpConfig { sizes: sizes.to_vec(), hidden, output, ..MlpConfig::default() };
    Mlp::new(&config, Seed::new(3)).unwrap()
}

#[test]
fn every_gradient_matches_finite_differences() {
    use Activation::{Identity, Relu, Sigmoid, Tanh};
    for (hidden, output) in
        [(Tanh, Identity), (Relu, Identity), (Sigmoid, Tanh), (Tanh, Sigmoid), (Identity, Relu)]
    {
        gradients_match(net(&[3, 7, 6, 2], hidden, output));
    }
    for (hidden, threads) in [(Tanh, 1), (Relu, 1), (Tanh, 2)] {
        let (sizes, layer_norm) = (vec![3, 7, 6, 2], true);
        let config = MlpConfig { sizes, hidden, layer_norm, threads, ..MlpConfig::default() };
        let mut net = Mlp::new(&config, Seed::new(3)).unwrap();
        for layer in net.layers().to_vec() {
            net.params_mut()[layer.gain()].iter_mut().zip(values(5, 7)).for_each(|(p, x)| *p = 1.0 + 0.5 * x);
            net.params_mut()[layer.offset()].iter_mut().zip(values(6, 7)).for_each(|(p, x)| *p = 0.5 * x);
        }
        gradients_match(net);
    }
}

/// Two convolutions and two dense layers over images of two planes.
fn convolutional(hidden: Activation, threads: usize) -> Mlp {
    let config = MlpConfig {
        sizes: vec![2 * 7 * 6, 5, 2],
        image: Some([2, 7, 6]),
        conv: vec![[3, 3, 1], [4, 2, 2]],
        hidden,
        threads,
        ..MlpConfig::default()
    };
    Mlp::new(&config, Seed::new(3)).unwrap()
}

#[test]
fn the_gradients_of_convolutions_match_too() {
    for (hidden, threads) in
        [(Activation::Tanh, 1), (Activation::Sigmoid, 1), (Activation::Relu, 1), (Activation::Tanh, 2)]
    {
        gradients_match(convolutional(hidden, threads));
    }
}

/// The definition: planes, rows and columns in, filters, rows and columns out.
fn convolve(net: &Mlp, layer: &LayerShape, x: &[f32]) -> Vec<f32> {
    let (w, window) = (net.weights_planes_first(layer), layer.window.unwrap());
    let (k, stride) = (window.kernel, window.stride);
    let bias = &net.params()[layer.bias()];
    let mut y = Vec::new();
    for filter in 0..layer.outputs {
        for (row, column) in
            (0..window.rows_out()).flat_map(|r| (0..window.columns_out()).map(move |c| (r, c)))
        {
            let mut sum = bias[filter];
            for (at, weights) in w.chunks_exact(layer.outputs).enumerate() {
                let (plane, down, right) = (at / (k * k), at / k % k, at % k);
                let (row, column) = (row * stride + down, column * stride + right);
                sum += weights[filter] * x[(plane * window.rows + row) * window.columns + column];
            }
            y.push(sum.tanh());
        }
    }
    y
}

#[test]
fn a_convolution_is_what_its_definition_says() {
    let mut net = convolutional(Activation::Tanh, 1);
    let [first, second, third, _] = net.layers()[..] else { panic!("four layers") };
    // 5 × 4 places for kernels of 3 × 3, and 2 × 2 for those of 2 × 2, two apart.
    assert_eq!((first.inputs, second.inputs, third.inputs), (2 * 9, 3 * 4, 4 * 2 * 2));
    let x = values(8, 3 * 84);
    let y = net.forward(&x, 3).unwrap().to_vec();
    for (x, y) in x.chunks_exact(84).zip(y.chunks_exact(2)) {
        let image = convolve(&net, &second, &convolve(&net, &first, x));
        let mut values = image;
        for layer in &net.layers()[2..] {
            let (w, bias) = (net.weights_planes_first(layer), &net.params()[layer.bias()]);
            values = (0..layer.outputs)
                .map(|j| {
                    bias[j]
                        + values
                            .iter()
                            .zip(w.iter().skip(j).step_by(layer.outputs))
                            .map(|(x, w)| x * w)
                            .sum::<f32>()
                })
                .map(|sum| if layer.activation == Activation::Tanh { sum.tanh() } else { sum })
                .collect();
        }
        assert!(values.iter().zip(y).all(|(a, b)| (a - b).abs() < 1e-5), "{values:?} {y:?}");
    }
}

#[test]
fn convolutions_infer_and_share_and_are_saved_like_other_layers() {
    let (mut net, x) = (convolutional(Activation::Relu, 1), values(4, 84 * 9));
    let want = net.forward(&x, 9).unwrap().to_vec();
    let mut scratch = Scratch::default();
    assert_eq!(net.infer(&x, 9, &mut scratch).unwrap(), want);
    assert_eq!(net.infer(&x[84..168], 1, &mut scratch).unwrap().len(), 2);

    let back = Mlp::from_safetensors(&save_safetensors(&net).unwrap()).unwrap();
    assert_eq!((back.config(), back.params()), (net.config(), net.params()));

    // Images of more values than are gathered at a time, on one thread and on two.
    let train = |threads| {
        let config = MlpConfig {
            sizes: vec![4 * 20 * 20, 32, 3],
            image: Some([4, 20, 20]),
            conv: vec![[16, 5, 1]],
            threads,
            ..MlpConfig::default()
        };
        let (mut net, x, d) = (Mlp::new(&config, Seed::new(1)).unwrap(), values(9, 7 * 1600), values(10, 21));
        net.forward(&x, 7).unwrap();
        net.backward_from_zero(&d).unwrap();
        net.grads().to_vec()
    };
    assert_eq!(train(1), train(1));
    for (i, (one, two)) in train(1).iter().zip(&train(2)).enumerate() {
        assert!((one - two).abs() < 1e-4, "{i}: {one} {two}");
    }
}

#[test]
fn convolutions_that_do_not_fit_their_image_are_errors() {
    let why = |image, conv: &[[usize; 3]]| {
        let config = MlpConfig { sizes: vec![84, 2], image, conv: conv.to_vec(), ..MlpConfig::default() };
        Mlp::new(&config, Seed::new(0)).unwrap_err().to_string()
    };
    assert_eq!(why(None, &[[3, 3, 1]]), "conv: needs inputs that are images: set `image`");
    assert_eq!(why(Some([2, 7, 7]), &[[3, 3, 1]]), "image: 2 × 7 × 7 is not 84, the first of `sizes`");
    assert_eq!(
        why(Some([2, 7, 6]), &[[3, 4, 1], [3, 4, 1]]),
        "conv: the kernel of number 1 is larger than its image of 4 × 3"
    );
    assert_eq!(
        why(Some([2, 7, 6]), &[[3, 3, 0]]),
        "conv: filters, kernel and stride of number 0 must be at least 1"
    );
    assert!(why(Some([2, 7, 6]), &[[1 << 40, 3, 1]]).contains("more than"));
}

fn gradients_match(mut net: Mlp) {
    let (hidden, output) = (net.config().hidden, net.config().output);
    let batch = 5;
    let (mut x, target) = (values(1, batch * net.inputs()), values(2, batch * net.outputs()));
    let mut d = vec![0.0; target.len()];
    let loss =
        |net: &mut Mlp, x: &[f32], d: &mut [f32]| mse(net.forward(x, batch).unwrap(), &target, d).unwrap();
    loss(&mut net, &x, &mut d);
    let d_input = net.backward_input(&d).unwrap().to_vec();
    let grads = net.grads().to_vec();
    let mut unused = d.clone();
    let mut at_a_corner = 0;
    for (i, grad) in grads.iter().enumerate() {
        let at = net.params()[i];
        let mut slope = |eps: f32| {
            net.params_mut()[i] = at + eps;
            let high = loss(&mut net, &x, &mut unused);
            net.params_mut()[i] = at - eps;
            let low = loss(&mut net, &x, &mut unused);
            net.params_mut()[i] = at;
            (high - low) / (2.0 * eps)
        };
        let (near, far) = (slope(5e-3), slope(1e-2));
        // Where a ReLU turns within the step the two slopes differ, and neither is the derivative.
        if (near - far).abs() > 5e-4 {
            at_a_corner += 1;
        } else {
            assert!((grad - near).abs() < 1e-3, "{hidden:?} {output:?} {i}: {grad} {near}");
        }
    }
    assert!(at_a_corner <= grads.len() / 10, "{hidden:?} {output:?}: {at_a_corner}");
    for i in 0..x.len() {
        let at = x[i];
        let mut slope = |eps: f32| {
            x[i] = at + eps;
            let high = loss(&mut net, &x, &mut unused);
            x[i] = at - eps;
            let low = loss(&mut net, &x, &mut unused);
            x[i] = at;
            (high - low) / (2.0 * eps)
        };
        let (near, far) = (slope(5e-3), slope(1e-2));
        if (near - far).abs() <= 5e-4 {
            assert!((d_input[i] - near).abs() < 1e-3, "input {i}: {} {near}", d_input[i]);
        }
    }
}

#[test]
fn backward_adds_and_input_gradient_leaves_the_parameters_alone() {
    let mut net = net(&[3, 5, 2], Activation::Tanh, Activation::Identity);
    let (x, d) = (values(1, 12), values(2, 8));
    net.forward(&x, 4).unwrap();
    net.backward(&d).unwrap();
    let once = net.grads().to_vec();
    let d_input = net.backward_input(&d).unwrap().to_vec();
    for (twice, once) in net.grads().iter().zip(&once) {
        assert!((twice - 2.0 * once).abs() < 1e-6);
    }
    net.zero_grads();
    assert_eq!(net.input_gradient(&d).unwrap(), d_input);
    assert!(net.grads().iter().all(|g| *g == 0.0));
}

#[test]
fn a_backward_from_zero_forgets_what_was_there() {
    for threads in [1, 2] {
        let config = MlpConfig { sizes: vec![200, 130, 120], threads, ..MlpConfig::default() };
        let mut net = Mlp::new(&config, Seed::new(1)).unwrap();
        let (x, d) = (values(9, 131 * 200), values(10, 131 * 120));
        net.forward(&x, 131).unwrap();
        net.backward(&d).unwrap();
        let want = net.grads().to_vec();
        net.backward_from_zero(&d).unwrap();
        assert!(net.grads() == want, "{threads} threads");
        net.backward(&d).unwrap();
        assert!(net.grads() != want, "the other one adds");
    }
}

fn train(seed: u64, threads: usize, sizes: &[usize], batch: usize) -> Vec<f32> {
    let config = MlpConfig { sizes: sizes.to_vec(), threads, ..MlpConfig::default() };
    let mut net = Mlp::new(&config, Seed::new(seed)).unwrap();
    let (inputs, classes) = (net.inputs(), net.outputs());
    let labels: Vec<u32> = (0..batch).map(|i| (i % classes) as u32).collect();
    let (x, mut d, mut adam) = (values(9, batch * inputs), vec![0.0; batch * classes], Adam::new(1e-3));
    for _ in 0..3 {
        softmax_cross_entropy(net.forward(&x, batch).unwrap(), &labels, classes, &mut d).unwrap();
        net.zero_grads();
        net.backward(&d).unwrap();
        let (params, grads) = net.params_and_grads();
        adam.step(params, grads).unwrap();
    }
    net.params().to_vec()
}

#[test]
fn one_seed_gives_the_same_bits_on_any_run() {
    for threads in [1, 2] {
        let first = train(1, threads, &[100, 130, 120, 10], 128);
        assert_eq!(first, train(1, threads, &[100, 130, 120, 10], 128), "{threads} threads");
        assert_ne!(first, train(2, threads, &[100, 130, 120, 10], 128));
    }
}

#[test]
fn two_threads_compute_what_one_does() {
    // Large enough that every product of the step is shared, with rows that do not divide evenly.
    let (one, two) = (train(1, 1, &[200, 130, 120], 131), train(1, 2, &[200, 130, 120], 131));
    for (i, (one, two)) in one.iter().zip(&two).enumerate() {
        assert!((one - two).abs() < 1e-5, "{i}: {one} {two}");
    }
}

#[test]
fn infer_equals_forward_from_several_threads() {
    let mut net = net(&[6, 33, 17, 4], Activation::Tanh, Activation::Sigmoid);
    let x = values(4, 6 * 21);
    let want = net.forward(&x, 21).unwrap().to_vec();
    let net = &net;
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut scratch = Scratch::default();
                assert_eq!(net.infer(&x, 21, &mut scratch).unwrap(), want);
                let row = net.infer(&x[6..12], 1, &mut scratch).unwrap();
                for (row, want) in row.iter().zip(&want[4..8]) {
                    assert!((row - want).abs() < 1e-6);
                }
            });
        }
    });
}

#[test]
fn what_does_not_fit_is_an_error_that_says_what_was_expected() {
    let mut net = net(&[4, 8, 2], Activation::Tanh, Activation::Identity);
    let error = net.forward(&[0.0; 9], 2).unwrap_err();
    assert_eq!(error.to_string(), "input values of forward: expected 8, got 9");
    net.forward(&[0.0; 8], 2).unwrap();
    let error = net.backward(&[0.0; 5]).unwrap_err();
    assert_eq!(error.to_string(), "output gradients of backward: expected 4, got 5");
    let error = net.infer(&[0.0; 3], 1, &mut Scratch::default()).unwrap_err();
    assert_eq!(error.to_string(), "input values of infer: expected 4, got 3");
    assert!(net.forward(&[], usize::MAX).is_err());
    for sizes in [vec![], vec![3], vec![3, 0, 2], vec![1 << 40, 1 << 40]] {
        let config = MlpConfig { sizes, ..MlpConfig::default() };
        assert!(Mlp::new(&config, Seed::new(0)).unwrap_err().to_string().starts_with("sizes: "));
    }
    let config = MlpConfig { threads: 0, ..MlpConfig::default() };
    assert!(Mlp::new(&config, Seed::new(0)).unwrap_err().to_string().starts_with("threads: "));
}

#[test]
fn an_empty_batch_is_harmless() {
    let mut net = net(&[4, 8, 2], Activation::Tanh, Activation::Identity);
    assert_eq!(net.forward(&[], 0).unwrap(), &[] as &[f32]);
    net.backward(&[]).unwrap();
    assert!(net.grads().iter().all(|g| *g == 0.0));
}

#[test]
fn normalised_layers_have_mean_0_and_deviation_1_before_gain_and_offset() {
    let config = MlpConfig {
        sizes: vec![3, 8, 8],
        hidden: Activation::Identity,
        layer_norm: true,
        ..MlpConfig::default()
    };
    let mut net = Mlp::new(&config, Seed::new(1)).unwrap();
    let [first, last] = net.layers() else { panic!("two layers") };
    assert!(first.normalized && !last.normalized && last.gain().is_empty());
    assert_eq!(net.params().len(), 3 * 8 + 8 + 2 * 8 + 8 * 8 + 8);
    // The last layer passes on what it gets, so the outputs are those of the first.
    let (first, last) = (*first, *last);
    net.params_mut()[last.weights()].fill(0.0);
    net.params_mut()[last.bias()].fill(0.0);
    for i in 0..8 {
        net.params_mut()[last.weights()][9 * i] = 1.0;
    }
    net.params_mut()[first.gain()].fill(2.0);
    net.params_mut()[first.offset()].fill(0.5);
    let x = values(3, 6);
    let y = net.forward(&x, 2).unwrap().to_vec();
    for row in y.chunks(8) {
        let mean = row.iter().sum::<f32>() / 8.0;
        let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / 8.0;
        assert!((mean - 0.5).abs() < 1e-5 && (variance.sqrt() - 2.0).abs() < 1e-2, "{mean} {variance}");
    }
    assert_eq!(net.infer(&x, 2, &mut Scratch::default()).unwrap(), y);
    let back = Mlp::from_safetensors(&save_safetensors(&net).unwrap()).unwrap();
    assert_eq!((back.config(), back.params()), (net.config(), net.params()));
}

#[test]
fn a_saved_network_comes_back_and_only_into_its_own_shape() {
    let init = Init::Orthogonal { hidden_gain: 1.4, output_gain: 0.01 };
    let config = MlpConfig { sizes: vec![5, 9, 3], hidden: Activation::Tanh, init, ..MlpConfig::default() };
    let saved = Mlp::new(&config, Seed::new(1)).unwrap();
    let bytes = save_safetensors(&saved).unwrap();
    let back = Mlp::from_safetensors(&bytes).unwrap();
    assert_eq!(back.config(), &config);
    assert_eq!(back.params(), saved.params());

    let mut other = net(&[5, 8, 3], Activation::Tanh, Activation::Identity);
    let before = other.params().to_vec();
    let error = load_safetensors(&mut other, &bytes).unwrap_err();
    assert_eq!(error.to_string(), "weights: 0.weight: expected F32 [8, 5], got F32 [9, 5]");
    assert_eq!(other.params(), before);
    let mut shorter = net(&[5, 9], Activation::Tanh, Activation::Identity);
    assert!(load_safetensors(&mut shorter, &bytes).unwrap_err().to_string().contains("holds 4 tensors"));
    assert!(Mlp::from_safetensors(&bytes[..bytes.len() - 7]).is_err());
    assert!(Mlp::from_safetensors(b"not a file of tensors").is_err());
}
