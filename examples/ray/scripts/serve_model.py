"""What the example `serve` leaves running: a model behind HTTP, until the job is stopped."""

from __future__ import annotations

import argparse
import signal
import sys
from typing import Any

import ray
from ray import serve
from starlette.requests import Request


@serve.deployment(num_replicas=1, ray_actor_options={"num_cpus": 0.1})
class Iris:
    """Tells the kind of an iris by the four lengths of its flower."""

    def __init__(self) -> None:
        from sklearn.datasets import load_iris
        from sklearn.tree import DecisionTreeClassifier

        iris = load_iris()
        self.names = iris.target_names
        self.model = DecisionTreeClassifier(max_depth=4, random_state=0).fit(iris.data, iris.target)

    async def __call__(self, request: Request) -> dict[str, Any]:
        lengths = await request.json()
        return {"kind": str(self.names[self.model.predict([lengths])[0]])}


def stop(number: int, frame: object) -> None:
    """Take the deployment down with the job: it would outlive its driver."""
    serve.shutdown()
    sys.exit(0)


parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int, default=8000)
arguments = parser.parse_args()

ray.init()
# Before anything answers, or a stop in that moment would leave Serve behind; after `init`, which sets a handler, too.
signal.signal(signal.SIGTERM, stop)
serve.start(http_options={"host": "0.0.0.0", "port": arguments.port})
serve.run(Iris.bind(), name="iris", route_prefix="/iris")
print(f"The model answers on port {arguments.port}", flush=True)
while True:
    signal.pause()
