"""mosec, a model server with a front in Rust and workers in Python: one workload of the comparison, POST /inference.

    WORKLOAD=iris python mosec_serve.py --port 8102 --address 127.0.0.1 --log-level warning

WORKLOAD is echo, iris or batch.
"""

import os
import time

from mosec import Server, Worker


class Echo(Worker):
    def forward(self, data):
        return data


class Boosting(Worker):
    def __init__(self):
        super().__init__()
        from sklearn.datasets import load_iris
        from sklearn.ensemble import GradientBoostingClassifier

        iris = load_iris()
        self.labels = iris.target_names.tolist()
        self.model = GradientBoostingClassifier(random_state=0).fit(iris.data, iris.target)

    def forward(self, data):
        return {"result": self.labels[self.model.predict([data["vector"]])[0]]}


class Device(Worker):
    """Busy for 5 ms with a batch of up to 32."""

    def forward(self, data):
        time.sleep(0.005)
        return [{"y": 2 * item["x"]} for item in data]


if __name__ == "__main__":
    server = Server()
    workload = os.environ["WORKLOAD"]
    if workload == "batch":
        server.append_worker(Device, num=1, max_batch_size=32, max_wait_time=2)
    else:
        server.append_worker({"echo": Echo, "iris": Boosting}[workload], num=2)
    server.run()
