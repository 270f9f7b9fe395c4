"""What Airflow itself needs at the end of a task, in the triggerer and in the worker."""

from __future__ import annotations

from airflow.sdk import DAG
from benches.ray.moment import WaitForMoment

with DAG("bench_moment", schedule=None, catchup=False):
    WaitForMoment(task_id="deferred", seconds="{{ dag_run.conf['deferred'] }}", deferrable=True)
    WaitForMoment(task_id="worker", seconds="{{ dag_run.conf['worker'] }}", deferrable=False)
