"""
### What a task gets, decided when it runs

`dynamic_config_parent` triggers `dynamic_config_child` twice, each run with a configuration of its own. The child's
`config` is a function: it sees the task's context, and gives the size, the environment and, on Kubernetes, the cluster.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import dag, task

if TYPE_CHECKING:
    from airflow.sdk import Context

CLUSTERS = Path(__file__).parent


def chosen(context: Context) -> dict[str, Any]:
    """The configuration of a task, by what its run was triggered with."""
    conf = context["dag_run"].conf or {}
    config: dict[str, Any] = {
        "conn_id": conf.get("conn_id", "ray_default"),
        "num_cpus": conf.get("num_cpus", 1),
        "runtime_env": {"env_vars": {"REGION": conf.get("region", "everywhere")}},
    }
    if "cluster" in conf:
        config["ray_cluster_yaml"] = str(CLUSTERS / conf["cluster"])
    return config


@dag(schedule=None, tags=["example", "ray"], doc_md=__doc__)
def dynamic_config_child() -> None:
    @task
    def generate() -> list[int]:
        return [1, 2, 3]

    @task.ray(config=chosen)
    def total(numbers: list[int]) -> dict[str, Any]:
        import os

        return {"region": os.environ["REGION"], "total": sum(numbers)}

    total(generate())


@dag(schedule=None, tags=["example", "ray"], doc_md=__doc__)
def dynamic_config_parent() -> None:
    runs = [
        TriggerDagRunOperator(
            task_id=task_id,
            trigger_dag_id="dynamic_config_child",
            trigger_run_id=f"{task_id}-of-{{{{ run_id }}}}",
            conf=conf,
            wait_for_completion=True,
            poke_interval=2,
        )
        for task_id, conf in (("north", {"region": "north", "num_cpus": 0.5}), ("anywhere", {}))
    ]
    runs[0] >> runs[1]


dynamic_config_child()
dynamic_config_parent()
