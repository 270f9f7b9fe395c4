"""A value that one reader changes is unchanged for the next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import dag, task

if TYPE_CHECKING:
    import pandas as pd


@dag(schedule=None)
def in_place() -> None:
    @task
    def measure() -> pd.DataFrame:
        import numpy as np
        import pandas as pd

        return pd.DataFrame({"celsius": np.zeros(1_000_000)})

    @task
    def to_kelvin(frame: pd.DataFrame) -> float:
        frame["celsius"] += 273.15
        return float(frame["celsius"].mean())

    @task
    def check(frame: pd.DataFrame, kelvin: float) -> bool:
        return frame["celsius"].max() == 0 and round(kelvin, 2) == 273.15

    frame = measure()
    check(frame, to_kelvin(frame))


in_place()
