"""Trains the iris classifier that the serving example answers with, and writes it as ONNX.

    python -m venv .venv && .venv/bin/pip install scikit-learn skl2onnx
    .venv/bin/python examples/data/train_iris.py

Writes beside itself:
  iris_gbc.onnx       100 rounds of 3 trees of depth 3, learning rate 0.1, log-loss, trained on all of iris
  iris_expected.json  what scikit-learn itself answers for every row of iris and for some odd points
"""

import json
import pathlib

import numpy as np
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.datasets import load_iris
from sklearn.ensemble import GradientBoostingClassifier

HERE = pathlib.Path(__file__).parent

iris = load_iris()
model = GradientBoostingClassifier(n_estimators=100, learning_rate=0.1, max_depth=3, loss="log_loss", random_state=0)
model.fit(iris.data, iris.target)

# Not `zipmap`: the scores stay one tensor, as ONNX Runtime users prefer too.
onnx = to_onnx(
    model,
    initial_types=[("X", FloatTensorType([None, 4]))],
    options={id(model): {"zipmap": False}},
    target_opset=17,
)
(HERE / "iris_gbc.onnx").write_bytes(onnx.SerializeToString())

# Points on and beside the thresholds, far outside the data, and the vector of the quick start.
odd = [
    [1.2, 1.0, 1.1, 0.9],
    [6.0, 2.9, 4.5, 1.5],
    [0.0, 0.0, 0.0, 0.0],
    [-1.0, -1.0, -1.0, -1.0],
    [1e6, 1e6, 1e6, 1e6],
    [-1e30, 1e30, -1e30, 1e30],
    [5.45, 2.45, 2.45, 0.8],
    [5.45, 2.45, 2.4500002, 0.80000001],
    [4.95, 3.05, 4.75, 1.75],
    [7.9, 2.0, 1.0, 2.5],
]
# The ONNX model takes float32, so scikit-learn is asked about the same float32 numbers.
points = np.vstack([iris.data, odd]).astype(np.float32)
expected = {
    "labels": [str(name) for name in iris.target_names],
    "points": [{"vector": [float(x) for x in p], "class": int(c), "probabilities": [float(x) for x in q]}
               for p, c, q in zip(points, model.predict(points), model.predict_proba(points))],
}
with open(HERE / "iris_expected.json", "w") as file:
    file.write('{"labels": %s, "points": [\n' % json.dumps(expected["labels"]))
    file.write(",\n".join(json.dumps(point) for point in expected["points"]))
    file.write("\n]}\n")

quick = expected["points"][150]
print("the quick start's vector is", expected["labels"][quick["class"]], quick["probabilities"])
