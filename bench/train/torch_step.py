"""PyTorch's time for the training step that `cargo run --release -p air-train --example step` measures.

    python torch_step.py [THREADS]

Forward, softmax cross-entropy, backward, Adam and reading the loss, of two networks; prints one JSON object with the same
names: medians over 21 groups of steps, in microseconds a step. Adam is PyTorch's fused one, the faster on a CPU.
"""

import json
import sys
import time

import torch
from torch import nn

GROUPS = 21


def network(sizes, hidden):
    layers = []
    for inputs, outputs in zip(sizes, sizes[1:]):
        layers += [nn.Linear(inputs, outputs), hidden()]
    return nn.Sequential(*layers[:-1])


def median_us(steps, step):
    for _ in range(steps):
        step()
    groups = []
    for _ in range(GROUPS):
        start = time.perf_counter()
        for _ in range(steps):
            step()
        groups.append((time.perf_counter() - start) * 1e6 / steps)
    return sorted(groups)[GROUPS // 2]


def measure(sizes, hidden, batch, steps):
    torch.manual_seed(1)
    net = network(sizes, hidden)
    adam = torch.optim.Adam(net.parameters(), lr=1e-3, fused=True)
    x = torch.rand(batch, sizes[0]) - 0.5
    labels = torch.randint(0, sizes[-1], (batch,))

    def train():
        adam.zero_grad()
        loss = nn.functional.cross_entropy(net(x), labels)
        loss.backward()
        adam.step()
        return loss.item()

    train_us = median_us(steps, train)
    with torch.inference_mode():
        infer_us = median_us(steps, lambda: net(x))
        one_row_us = median_us(steps * 4, lambda: net(x[:1]))
    return {"train_us": train_us, "infer_us": infer_us, "infer_one_row_us": one_row_us, "last_loss": train()}


def main():
    threads = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    torch.set_num_threads(threads)
    print(json.dumps({
        "threads": threads,
        "mlp_4_64_64_2_batch_64": measure([4, 64, 64, 2], nn.Tanh, 64, 400),
        "mlp_784_512_512_10_batch_256": measure([784, 512, 512, 10], nn.ReLU, 256, 4),
    }))


if __name__ == "__main__":
    main()
