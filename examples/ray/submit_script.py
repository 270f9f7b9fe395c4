"""
### A script as a job

`working_dir` is packed, uploaded once and unpacked on the cluster; the entrypoint runs in it. The task's value is the
job's id, its log is the job's.
"""

from __future__ import annotations

from pathlib import Path

from airflow.sdk import dag

from airfreight.operators.ray import SubmitRayJob

SCRIPTS = Path(__file__).parent / "scripts"


@dag(schedule=None, tags=["example", "ray"], doc_md=__doc__)
def submit_script() -> None:
    SubmitRayJob(
        task_id="hello",
        conn_id="ray_default",
        entrypoint="python hello.py Airflow",
        runtime_env={"working_dir": str(SCRIPTS)},
        num_cpus=1,
    )


submit_script()
