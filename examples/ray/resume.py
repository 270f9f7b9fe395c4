"""
### Go on from a checkpoint

The demonstration of fault tolerance of 2021's provider. What `features` and `train` return stays in the memory of the
cluster, and a copy of each is in a bucket when its task ends. `publish` fails while the folder `models` isn't there.
Make it, clear `publish`, and the run ends with the model that was trained, even if the cluster was replaced in the
meantime: the task reads the copy, and its log says so. Nothing is trained again.

`checkpoint=True` means the bucket that `[airfreight] checkpoint` names; `checkpoint_source` is how the article about
that provider spelled it, and names a connection.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from airflow.sdk import Param, dag, task

if TYPE_CHECKING:
    import pandas as pd
    from sklearn.linear_model import LogisticRegression

MODELS = str(Path(tempfile.gettempdir()) / "airfreight-models")


@dag(schedule=None, tags=["example", "ray"], doc_md=__doc__, params={"models": Param(MODELS)})
def resume() -> None:
    @task.ray(mode="warm", num_cpus=0.5, checkpoint=True)
    def features() -> pd.DataFrame:
        from sklearn.datasets import load_digits

        digits = load_digits(as_frame=True).frame
        print(f"{len(digits)} handwritten digits")
        return digits

    @task.ray(mode="warm", num_cpus=0.5, checkpoint_source="s3_connection_id")
    def train(digits: pd.DataFrame) -> LogisticRegression:
        from sklearn.linear_model import LogisticRegression

        print("Training, which takes hours elsewhere")
        return LogisticRegression(max_iter=500).fit(digits.drop(columns="target").to_numpy() / 16, digits["target"])

    @task
    def publish(model: LogisticRegression, digits: pd.DataFrame, models: str) -> float:
        """Write the model where others look for it; the folder is theirs."""
        import pickle

        score = round(float(model.score(digits.drop(columns="target").to_numpy() / 16, digits["target"])), 4)
        (Path(models) / "digits.pickle").write_bytes(pickle.dumps(model))
        print(f"{score:.1%} of the digits are read right")
        return score

    digits = features()
    publish(train(digits), digits, "{{ params.models }}")


resume()
