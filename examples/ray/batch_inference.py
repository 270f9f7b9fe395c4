"""
### Batch inference

A model is trained in the worker and handed to the cluster as an argument. There, Ray Data reads the rows, gives a copy
of the model to each of its actors, and writes what they predict.

`folder` is a folder that workers and cluster share, or a bucket (`s3://…`).
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import Param, dag, task

if TYPE_CHECKING:
    import numpy as np
    from sklearn.linear_model import LogisticRegression

FOLDER = str(Path(tempfile.gettempdir()) / "airfreight-digits")


@dag(schedule=None, tags=["example", "ray"], doc_md=__doc__, params={"folder": Param(FOLDER)})
def batch_inference() -> None:
    @task
    def train() -> LogisticRegression:
        """Learn to read handwritten digits from two thirds of them."""
        from sklearn.datasets import load_digits
        from sklearn.linear_model import LogisticRegression

        pixels, digits = load_digits(return_X_y=True)
        return LogisticRegression(max_iter=500).fit(pixels[:1200] / 16, digits[:1200])

    @task
    def collect(folder: str) -> str:
        """The other third, as files that came in over the day."""
        import pandas as pd
        from sklearn.datasets import load_digits

        pixels, digits = load_digits(return_X_y=True)
        rows = pd.DataFrame({"pixels": list(pixels[1200:] / 16), "digit": digits[1200:]})
        incoming = Path(folder) / "incoming"
        incoming.mkdir(parents=True, exist_ok=True)
        for number in range(4):
            rows.iloc[number::4].to_parquet(incoming / f"part-{number}.parquet")
        return str(incoming)

    @task.ray(num_cpus=0, job_timeout_seconds=900)
    def predict(model: LogisticRegression, incoming: str, folder: str) -> dict[str, Any]:
        import numpy as np
        import ray

        class Reader:
            """Lives as long as its actor: what is slow to load is loaded once."""

            def __init__(self, model: LogisticRegression) -> None:
                self.model = model

            def __call__(self, rows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
                chances = self.model.predict_proba(np.stack(rows["pixels"]))
                predicted = self.model.classes_[chances.argmax(axis=1)]
                right = (predicted == rows["digit"]).astype(float)
                return {
                    "digit": rows["digit"],
                    "predicted": predicted,
                    "right": right,
                    "certainty": chances.max(axis=1),
                }

        predicted = (
            ray.data.read_parquet(incoming)
            .map_batches(Reader, fn_constructor_args=(model,), batch_size=128, concurrency=1)
            .materialize()
        )
        target = f"{folder}/predicted"
        predicted.write_parquet(target)
        return {"rows": predicted.count(), "accuracy": round(float(predicted.mean("right")), 4), "path": target}

    @task
    def check(summary: dict[str, Any]) -> dict[str, Any]:
        """Stop here if the model reads badly, before anybody uses its predictions."""
        if summary["accuracy"] < 0.85:
            raise ValueError(f"only {summary['accuracy']:.1%} of {summary['rows']} digits were read right")
        return summary

    check(predict(train(), collect("{{ params.folder }}"), "{{ params.folder }}"))


batch_inference()
