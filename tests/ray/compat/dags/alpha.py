"""A DAG as it was written for ``airflow-provider-ray``, callbacks included."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import dag

from ray_provider.decorators.ray_decorators import ray_task
from ray_provider.xcom.ray_backend import RayBackend

if TYPE_CHECKING:
    import pandas as pd

default_args = {
    "on_success_callback": RayBackend.on_success_callback,
    "on_failure_callback": RayBackend.on_failure_callback,
}
task_args = {"ray_conn_id": "ray_cluster_connection"}


@dag(default_args=default_args, schedule=None)
def alpha() -> None:
    @ray_task(**task_args)
    def build() -> pd.DataFrame:
        import numpy as np
        import pandas as pd

        return pd.DataFrame(np.arange(60_000).reshape(10_000, 6), columns=list("ABCDEF"))

    # The old decorator ignored the name.
    @ray_task(ray_conn_id="never_defined", eager=True)
    def sum_columns(frame: pd.DataFrame) -> pd.DataFrame:
        import pandas as pd

        return pd.DataFrame(frame.sum()).T

    @ray_task(ray_worker_pool="ray_worker_pool", checkpoint=True)
    def least(sums: pd.DataFrame) -> int:
        return int(sums.T.min().iloc[0])

    least(sum_columns(build()))


alpha()
