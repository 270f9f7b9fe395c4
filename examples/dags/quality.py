"""
### A branch that looks at a large value

The branching task reads the whole frame; what it decides is a small value and stays readable in Airflow's UI.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import Param, dag, task

if TYPE_CHECKING:
    import pandas as pd


@dag(
    schedule=None,
    tags=["example"],
    doc_md=__doc__,
    params={"missing": Param(0.2, type="number", description="How much of the frame is missing, from 0 to 1")},
)
def quality() -> None:
    @task
    def measure(params: dict[str, Any]) -> pd.DataFrame:
        import numpy as np
        import pandas as pd

        random = np.random.default_rng(5)
        frame = pd.DataFrame(random.normal(size=(100_000, 4)), columns=["a", "b", "c", "d"])
        return frame.mask(random.random(frame.shape) < params["missing"])

    @task.branch
    def check(frame: pd.DataFrame) -> str:
        return "keep" if frame.isna().to_numpy().mean() < 0.1 else "repair"

    @task
    def keep(frame: pd.DataFrame) -> pd.DataFrame:
        return frame

    @task
    def repair(frame: pd.DataFrame) -> pd.DataFrame:
        return frame.interpolate(limit_direction="both")

    @task(trigger_rule="none_failed_min_one_success")
    def summarise(kept: pd.DataFrame | None, repaired: pd.DataFrame | None) -> dict[str, Any]:
        """Take the frame of the branch that ran; the other one has left none."""
        frame = repaired if kept is None else kept
        return {"rows": len(frame), "missing": int(frame.isna().sum().sum()), "repaired": kept is None}

    frame = measure()
    kept, repaired = keep(frame), repair(frame)
    check(frame) >> [kept, repaired]
    summarise(kept, repaired)


quality()
