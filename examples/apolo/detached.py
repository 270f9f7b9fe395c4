"""A job that is started by one task and awaited by another: no worker is held meanwhile."""

from __future__ import annotations

from airflow.sdk import dag

from airfreight.operators.apolo import ApoloRunOperator
from airfreight.sensors.apolo import ApoloJobStatusSensor, JobStatus


@dag(schedule=None, tags=["example", "apolo"])
def apolo_detached() -> None:
    start = ApoloRunOperator(
        task_id="start",
        job_image="ubuntu:24.04",
        job_command="sleep 60",
        job_resources_preset="cpu-small",
        deferrable=True,
    )
    finish = ApoloJobStatusSensor(
        task_id="finish",
        job_id="{{ ti.xcom_pull(task_ids='start')['id'] }}",
        job_statuses=[JobStatus.SUCCEEDED],
        deferrable=True,
        timeout=3600,
    )
    start >> finish


apolo_detached()
