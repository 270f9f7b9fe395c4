"""The task whose memory the others are held against; its file imports no provider of Ray's."""

from __future__ import annotations

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG

with DAG("bench_bash", schedule=None, catchup=False):
    BashOperator(task_id="bash", bash_command="sleep 6")
