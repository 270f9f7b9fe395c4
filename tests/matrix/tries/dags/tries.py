"""Notes the try number and ``max_tries`` of each attempt, in every way in which a task may come to run again."""

from __future__ import annotations

import datetime
import json
import os
import signal
from pathlib import Path
from typing import Any

from airflow.providers.standard.triggers.temporal import DateTimeTrigger
from airflow.sdk import DAG, BaseOperator

FOLDER = Path(os.environ["TRIES_FOLDER"])
WAIT = datetime.timedelta(minutes=10)


class Noting(BaseOperator):
    """Notes each attempt, then behaves as its name says."""

    def execute(self, context: Any) -> None:
        attempt = self._note(context, "execute")
        if self.task_id == "fails" and attempt == 1:
            raise RuntimeError("on purpose")
        if self.task_id == "killed" and attempt == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.task_id == "vanishes" and attempt == 1:
            # The supervisor too: nobody is left who could report.
            os.kill(os.getppid(), signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)
        if self.task_id == "runs" and attempt == 1:
            signal.pause()  # until Airflow ends it
            raise RuntimeError("cleared")
        if self.task_id in {"defers", "resumes_and_fails"} and attempt == 1:
            wait = WAIT if self.task_id == "defers" else datetime.timedelta(seconds=5)
            self.defer(
                trigger=DateTimeTrigger(moment=datetime.datetime.now(tz=datetime.UTC) + wait), method_name="resume"
            )

    def resume(self, context: Any, event: Any = None) -> None:
        self._note(context, "resume")
        if self.task_id == "resumes_and_fails":
            raise RuntimeError("on purpose")

    def _note(self, context: Any, method: str) -> int:
        ti = context["ti"]
        with (FOLDER / f"{self.task_id}.jsonl").open("a") as file:
            file.write(json.dumps([method, ti.try_number, ti.max_tries]) + "\n")
        return int(ti.try_number)


with DAG("tries", schedule=None, default_args={"retries": 1, "retry_delay": datetime.timedelta(seconds=1)}):
    for name in ("fails", "killed", "vanishes", "runs", "defers", "resumes_and_fails"):
        Noting(task_id=name)
