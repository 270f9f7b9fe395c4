"""What the tasks of a run did on Ray: their jobs as Ray knows them, and what Airflow's logs have of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_home import AirflowHome
    from ray_home import RayHome

#: What the tasks of `flights_ray` print on the cluster.
_PRINTED = re.compile(r"[\d.]+ minutes off: ")


@dataclass
class Job:
    """One job; times in seconds."""

    task: str
    map_index: int
    submission_id: str
    status: str
    on_ray: float
    in_airflow: float
    #: A line that the function printed, out of the task's log in Airflow.
    printed: str

    @property
    def name(self) -> str:
        """The task as the UI shows it."""
        return self.task if self.map_index < 0 else f"{self.task}[{self.map_index}]"


def jobs(ray: RayHome, airflow: AirflowHome, dag_id: str, run_id: str) -> list[Job]:
    """Every job of a run, in the order in which they were submitted."""
    instances = {(each["task_id"], each["map_index"]): each for each in airflow.task_instances(dag_id, run_id)}
    found = []
    for each in sorted(ray.jobs(), key=lambda each: each["start_time"]):
        metadata = each["metadata"] or {}
        if (metadata.get("dag_id"), metadata.get("run_id")) != (dag_id, run_id):
            continue
        task, map_index = metadata["task_id"], int(metadata["map_index"])
        events = [entry["event"] for entry in airflow.log(dag_id, run_id, task, map_index)]
        found.append(
            Job(
                task,
                map_index,
                each["submission_id"],
                each["status"],
                (each["end_time"] - each["start_time"]) / 1000,
                _duration(instances[task, map_index]),
                next(filter(_PRINTED.match, events), ""),
            )
        )
    return found


def _duration(instance: dict[str, Any]) -> float:
    began, ended = (datetime.fromisoformat(instance[key]) for key in ("start_date", "end_date"))
    return (ended - began).total_seconds()
