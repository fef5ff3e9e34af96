"""One training step of two dense networks, beside PyTorch, on one thread and on two."""

from pathlib import Path

from lib import Comparison, Peer, Row, built, peer_script, run_json

HERE = Path(__file__).parent
NETWORKS = {
    "mlp_4_64_64_2_batch_64": "MLP 4-64-64-2, batch 64",
    "mlp_784_512_512_10_batch_256": "MLP 784-512-512-10, batch 256",
}
MEASURES = {"train_us": "training step", "infer_us": "inference"}
THREADS = (1, 2)
NOTES = {
    "mlp_784_512_512_10_batch_256": "nearly all of it is matrix products, where PyTorch calls MKL",
}


def flat(results):
    """{network-measure-threads: microseconds} from one result per thread count."""
    return {f"{network}-{measure}-{result['threads']}": result[network][measure]
            for result in results for network in NETWORKS for measure in MEASURES}


def ours():
    program = built("step")
    return flat(run_json([program, threads]) for threads in THREADS)


def torch():
    return flat(peer_script(HERE / "torch_step.py", threads, package="torch") for threads in THREADS)


def rows():
    for network, name in NETWORKS.items():
        for measure, what in MEASURES.items():
            for threads in THREADS:
                key = f"{network}-{measure}-{threads}"
                label = f"{name}: {what}, {threads} thread{'s' * (threads > 1)}"
                yield Row(label, "µs", key, key, "PyTorch", higher_is_better=False, floor=1.0, note=NOTES.get(network, ""))


COMPARISON = Comparison(
    title="Train: one step of a dense network",
    about="Forward, softmax cross-entropy, backward, Adam and reading the loss, in f32 on the CPU; inference is the forward pass of the "
    "same batch. Our networks are those of `air_train::nn`; PyTorch runs eagerly with its fused Adam. The floor here is 1×: both sides "
    "do the same multiplications, and the large network is little else.",
    ours=ours,
    peers=[Peer("PyTorch", torch, package="torch")],
    rows=list(rows()),
)
