"""
### One task per part of a list of frames

The list is stored once. Each mapped task reads its own frame of it, and the last task reads all their results.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import dag, task

if TYPE_CHECKING:
    import pandas as pd


@dag(schedule=None, tags=["example"], doc_md=__doc__)
def shards() -> None:
    @task
    def split() -> list[pd.DataFrame]:
        """Make half a million measurements, and a frame of each sensor's."""
        import numpy as np
        import pandas as pd

        random = np.random.default_rng(7)
        measured = pd.DataFrame(
            {
                "sensor": random.integers(0, 4, 500_000),
                "at": pd.date_range("2026-01-01", periods=500_000, freq="s"),
                "celsius": random.normal(20, 3, 500_000),
            }
        )
        return [rows.reset_index(drop=True) for _, rows in measured.groupby("sensor")]

    @task
    def hourly(rows: pd.DataFrame) -> pd.Series:
        return rows.resample("1h", on="at")["celsius"].mean().rename(int(rows["sensor"].iloc[0]))

    @task
    def compare(columns: list[pd.Series]) -> dict[str, float]:
        """Put the mapped tasks' results side by side."""
        import pandas as pd

        table = pd.concat(list(columns), axis="columns")
        return {"sensors": table.shape[1], "hours": table.shape[0], "spread": float(table.std(axis="columns").mean())}

    compare(hourly.expand(rows=split()))


shards()
