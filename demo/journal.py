"""The times that Airfreight wrote into the tasks' logs."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_home import AirflowHome

_STORED = re.compile(r"stored (?P<key>\S+): .* in (?P<ms>[\d.]+) ms$")
_READ = re.compile(r"read (?P<key>\S+) of (?P<task>\S+): .* in (?P<ms>[\d.]+) ms$")


@dataclass
class Journal:
    """How long the tasks of a run took to store and to read values, in milliseconds."""

    #: by task and key
    stored: dict[tuple[str, str], float] = field(default_factory=dict)
    #: by reading task, and task and key of what it read
    read: dict[tuple[str, str, str], float] = field(default_factory=dict)


def collect(airflow: AirflowHome, dag_id: str, run_id: str) -> Journal:
    """Read the logs of all tasks of a run."""
    journal = Journal()
    for instance in airflow.task_instances(dag_id, run_id):
        task = instance["task_id"]
        for entry in airflow.log(dag_id, run_id, task, instance["map_index"]):
            if stored := _STORED.match(entry["event"]):
                journal.stored[task, stored["key"]] = float(stored["ms"])
            elif read := _READ.match(entry["event"]):
                journal.read[task, read["task"], read["key"]] = float(read["ms"])
    return journal
