"""
### Frames of Modin pass between tasks

`blocks` with Modin, for clusters that have it (`pip install "modin[ray]"` in every node's environment). The frame that
`load` returns refers to parts all over the cluster, which `eager=True` keeps. Modin gives its frame to other processes
as one of pandas, put together where it is used; `modin.pandas.DataFrame(flights)` spreads it again.

`folder` is that of `blocks`, which fills it.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from airflow.sdk import Param, dag, task

if TYPE_CHECKING:
    import pandas as pd

FOLDER = str(Path(tempfile.gettempdir()) / "airfreight-departures")


@dag(schedule=None, tags=["example", "ray"], doc_md=__doc__, params={"folder": Param(FOLDER)})
def modin_frames() -> None:
    @task.ray(mode="warm", num_cpus=0, eager=True)
    def load(folder: str) -> pd.DataFrame:
        from pathlib import Path

        import modin.pandas as mpd

        months = sorted(Path(folder).glob("months/*.parquet"))
        return mpd.concat([mpd.read_parquet(month) for month in months])

    @task.ray(mode="warm", num_cpus=0)
    def by_month(flights: pd.DataFrame) -> dict[str, float]:
        late = flights.groupby("month")["arr_delay"].mean().round(1)
        return {str(month): float(minutes) for month, minutes in late.items()}

    @task
    def worst(late: dict[str, float]) -> str:
        month = max(late, key=late.__getitem__)
        return f"in month {month} flights were {late[month]} minutes late"

    worst(by_month(load("{{ params.folder }}")))


modin_frames()
