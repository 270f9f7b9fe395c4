"""
An executor whose tasks run on hosts of a :class:`~host_home.network.Network`: each on the one that its queue names.

What runs there is what runs in a pod of the KubernetesExecutor: ``airflow.sdk.execution_time.execute_workload``, which
reaches Airflow by its API alone.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.executors.base_executor import BaseExecutor

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Names a file: hosts by name, each with the ``command`` that enters it and the ``environment`` of its tasks.
VARIABLE = "AIRFREIGHT_TEST_HOSTS"


class HostsExecutor(BaseExecutor):
    """One process for each task instance."""

    is_local = False

    def start(self) -> None:
        self._hosts = json.loads(Path(os.environ[VARIABLE]).read_text())
        self._processes: dict[Any, tuple[Any, subprocess.Popen[bytes]]] = {}

    def _process_workloads(self, workload_items: Sequence[Any]) -> None:
        for workload in workload_items:
            del self.queued_tasks[workload.key]
            host = self._hosts[workload.ti.queue]
            program = [sys.executable, "-m", "airflow.sdk.execution_time.execute_workload"]
            process = subprocess.Popen(
                [*host["command"], *program, "--json-string", workload.model_dump_json()],
                env=os.environ | host["environment"],
                stdin=subprocess.DEVNULL,
            )
            self._processes[workload.key] = workload, process
            self.running.add(workload.key)

    def sync(self) -> None:
        for key, (workload, process) in list(self._processes.items()):
            if process.poll() is not None:
                del self._processes[key]
                self.change_state(key, workload.failure_state if process.returncode else workload.success_state)

    def end(self) -> None:
        for _, process in self._processes.values():
            process.wait()

    def terminate(self) -> None:
        for _, process in self._processes.values():
            process.kill()
