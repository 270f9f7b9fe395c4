"""One Apolo job per DAG, waited for in every way; a run's configuration says what the job does."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG

from airfreight.operators.apolo import ApoloRunOperator
from airfreight.operators.neuro import NeuroRunOperator
from airfreight.sensors.apolo import ApoloJobStatusSensor

PARAMS = {"command": "echo hello"}
COMMON = {
    "task_id": "job",
    "job_image": "ubuntu",
    "job_command": "{{ params.command }}",
    "job_resources_preset": "cpu-small",
    "job_environ": {"RUN": "{{ run_id }}"},
    "retries": 1,
    "retry_delay": timedelta(0),
}

#: For whoever runs them with `dag.test()`.
dags = []

for name, options in {
    "apolo_deferred": {"deferrable": True, "job_detach": False, "poll_interval": 0.5},
    "apolo_in_worker": {"job_detach": False},
    "apolo_detached": {"deferrable": True, "poll_interval": 0.5},
}.items():
    with DAG(name, params=PARAMS, schedule=None) as dag:
        ApoloRunOperator(**COMMON, **options)
    dags.append(dag)

with DAG("neuro_in_worker", params=PARAMS, schedule=None, default_args={"job_detach": False}) as dag:
    NeuroRunOperator(**COMMON)
dags.append(dag)

# As it was written for the old plugin: detached, and nothing said of triggerers.
with DAG("neuro_detached", params=PARAMS, schedule=None) as dag:
    NeuroRunOperator(**COMMON)
dags.append(dag)

with DAG("apolo_pair", params=PARAMS, schedule=None) as dag:
    job = ApoloRunOperator(**COMMON)
    job >> ApoloJobStatusSensor(
        task_id="wait",
        job_id="{{ ti.xcom_pull(task_ids='job')['id'] }}",
        job_statuses=["succeeded"],
        deferrable=True,
        poll_interval=0.5,
    )
dags.append(dag)
