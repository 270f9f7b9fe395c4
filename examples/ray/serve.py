"""
### A model behind HTTP, left running

`wait_for_completion=False` ends the task when the job is submitted; Ray Serve goes on answering. The task after it
waits for the first answer, so that the run is green only when the model works. Clearing `deploy` stops the job and
starts it anew, with the code of then.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airflow.sdk import Param, dag, task

from airfreight.operators.ray import SubmitRayJob

SCRIPTS = Path(__file__).parent / "scripts"


@dag(
    schedule=None,
    tags=["example", "ray"],
    doc_md=__doc__,
    params={
        "port": Param(8000, type="integer", description="Where Ray Serve listens"),
        "host": Param("localhost", description="The cluster's head as the workers see it"),
    },
)
def serve() -> None:
    deploy = SubmitRayJob(
        task_id="deploy",
        conn_id="ray_default",
        entrypoint="python serve_model.py --port {{ params.port }}",
        runtime_env={"working_dir": str(SCRIPTS)},
        wait_for_completion=False,
    )

    @task.sensor(poke_interval=2, timeout=300)
    def answers(url: str) -> Any:
        import json
        from urllib.request import Request, urlopen

        from airflow.sdk import PokeReturnValue

        body = json.dumps([5.1, 3.5, 1.4, 0.2]).encode()
        try:
            with urlopen(Request(url, body, {"Content-Type": "application/json"}), timeout=10) as answer:
                return PokeReturnValue(is_done=True, xcom_value=json.load(answer))
        except OSError:  # refused, cut off, too slow, or not ready
            return PokeReturnValue(is_done=False)

    deploy >> answers("http://{{ params.host }}:{{ params.port }}/iris")


serve()
