"""
### A job on a GPU

The driver needs no GPU itself: the remote task inside asks for one.
"""

from __future__ import annotations

from pathlib import Path

from airflow.sdk import dag

from airfreight.operators.ray import SubmitRayJob

SCRIPTS = Path(__file__).parent / "scripts"


@dag(schedule=None, tags=["example", "ray"], doc_md=__doc__)
def gpu_job() -> None:
    SubmitRayJob(
        task_id="multiply",
        conn_id="ray_default",
        entrypoint="python gpu.py",
        runtime_env={"working_dir": str(SCRIPTS)},
        resources={},
        job_timeout_seconds=1800,
    )


gpu_job()
