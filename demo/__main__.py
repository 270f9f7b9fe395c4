"""Run the demo: ``python -m demo``, or ``make demo``, which builds what it needs first."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.markup import escape

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "tests"))

from airflow_home import AirflowHome, AirflowHomeError  # noqa: E402 - it lives with the tests
from demo import cluster, journal, tables  # noqa: E402
from demo.screen import Screen, Step  # noqa: E402
from ray_home import RayHome, RayHomeError  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

LOCAL = "flights"
ON_RAY = "flights_ray"
DAGS = REPOSITORY / "examples" / "dags"
PICTURES = REPOSITORY / "build" / "demo"
SHARED_MEMORY = Path("/dev/shm")
#: Twice what the DAG's values take.
STORE_BYTES_MIN = 512 * 1024**2


def main() -> int:
    """Run everything; the result is the exit code."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    screen = Screen()
    try:
        run(screen)
    except KeyboardInterrupt:
        screen.console.print("\nInterrupted. Everything that was started has been stopped.")
        return 130
    except (AirflowHomeError, RayHomeError, OSError) as error:
        text = "\n".join([str(error), *getattr(error, "__notes__", ())])
        screen.console.print(f"\n[red]The demo failed:[/] {escape(text)}", highlight=False, soft_wrap=True)
        return 1
    return 0


def run(screen: Screen) -> None:
    """Start Ray and Airflow, run the DAGs, show what travelled, stop everything."""
    with store_folder(screen) as store, ExitStack() as running:
        with screen.step("Start Ray: a head node with its dashboard, in a virtual environment of its own"):
            ray = running.enter_context(RayHome.start(num_cpus=2))
        env = {
            "AIRFLOW__CORE__XCOM_BACKEND": "airfreight.xcom.AirfreightXCom",
            "AIRFLOW__AIRFREIGHT__STORE_PATH": str(store / "store"),
            "AIRFLOW__AIRFREIGHT__SPILL_PATH": str(store / "spill"),
            "AIRFLOW_CONN_RAY_DEFAULT": json.dumps({"conn_type": "ray", "extra": {"address": ray.address}}),
        }
        with screen.step("Start Airflow: API server, scheduler, DAG processor, triggerer") as step:
            home = AirflowHome(DAGS, env=env, progress=lambda each: step.update(each.done, each.total, each.detail))
            airflow = running.enter_context(home)
        run_id = fly(screen, airflow, LOCAL)
        with screen.step("Send the same values through Airflow's own XCom"):
            local = Flight(
                measure(airflow, LOCAL, run_id, store / "store", costs=True), journal.collect(airflow, LOCAL, run_id)
            )
        run_id = fly(screen, airflow, ON_RAY)
        with screen.step("Ask Ray for its jobs, and Airflow for their logs"):
            on_ray = Flight(
                measure(airflow, ON_RAY, run_id, store / "store", costs=False), journal.collect(airflow, ON_RAY, run_id)
            )
            jobs = cluster.jobs(ray, airflow, ON_RAY, run_id)
            best = airflow.xcom(ON_RAY, run_id, "best")
            scores = airflow.xcom(ON_RAY, run_id, "evaluate", "scores")
        with screen.step("Stop Airflow and Ray"):
            running.close()
    report(screen, local)
    report_ray(screen, on_ray, jobs, best, scores)


class Flight(NamedTuple):
    """A run of a DAG, as it was measured: what its tasks received, and the times in their logs."""

    measured: dict[str, Any]
    times: journal.Journal


def fly(screen: Screen, airflow: AirflowHome, dag_id: str) -> str:
    """Run a DAG; the result is the id of the run."""
    with screen.step(f"Run the DAG {dag_id}") as step:
        picture = picture_of(dag_id)
        picture.parent.mkdir(parents=True, exist_ok=True)
        picture.unlink(missing_ok=True)
        run_id = airflow.trigger(dag_id, {"picture": str(picture)})
        airflow.wait(dag_id, run_id, progress=lambda instances: show_tasks(step, instances))
    return run_id


def picture_of(dag_id: str) -> Path:
    return PICTURES / f"{dag_id}.png"


def show_tasks(step: Step, instances: list[dict[str, Any]]) -> None:
    done = sum(each["state"] == "success" for each in instances)
    busy = [each for each in instances if each["state"] in ("running", "deferred")]
    names = [each["task_id"] if each["map_index"] < 0 else f"{each['task_id']}[{each['map_index']}]" for each in busy]
    step.update(done, max(len(instances), 1), ", ".join(names))


def measure(airflow: AirflowHome, dag_id: str, run_id: str, store: Path, *, costs: bool) -> dict[str, Any]:
    """Run ``demo.measure`` the way a task runs: a process of its own in Airflow's environment."""
    request = {
        "dag_file": str(DAGS / f"{dag_id}.py"),
        "dag_id": dag_id,
        "run_id": run_id,
        "url": airflow.url,
        "store": str(store),
        "costs": costs,
    }
    log = airflow.folder / "components" / "measure.log"
    path = os.pathsep.join(filter(None, [str(REPOSITORY), str(REPOSITORY / "tests"), airflow.env.get("PYTHONPATH")]))
    with log.open("w") as output:
        done = subprocess.run(
            [airflow.venv / "bin" / "python", "-m", "demo.measure"],
            env=airflow.env | {"PYTHONPATH": path},
            input=json.dumps(request),
            stdout=subprocess.PIPE,
            stderr=output,
            text=True,
            check=False,
        )
    if done.returncode != 0:
        raise AirflowHomeError(f"the measurement exited with {done.returncode}; {log}:\n{log.read_text()[-4000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def report(screen: Screen, flight: Flight) -> None:
    """Print the tables of `flights` and where the picture is."""
    show, (measured, times) = screen.console.print, flight
    show()
    show(tables.received(LOCAL, measured["parameters"], measured["values"], times))
    show(f"[dim]{tables.RECEIVED_NOTE}[/]", highlight=False)
    show()
    show(tables.costs(measured["values"], times))
    show(f"[dim]{tables.COSTS_NOTE}[/]", highlight=False)
    for line in tables.refusals(measured["values"]):
        show(f"[dim]{escape(line)}[/]", highlight=False)
    show()
    show(f"The picture: {picture_of(LOCAL)}", highlight=False, soft_wrap=True)


def report_ray(
    screen: Screen, flight: Flight, jobs: list[cluster.Job], best: dict[str, Any], scores: dict[str, Any]
) -> None:
    """Print the tables of `flights_ray`, its best parameters and where the picture is."""
    show, (measured, times) = screen.console.print, flight
    show()
    show(tables.received(ON_RAY, measured["parameters"], measured["values"], times))
    show(f"[dim]{tables.MAPPED_NOTE}[/]", highlight=False)
    show()
    show(tables.jobs(jobs))
    show(f"[dim]{tables.JOBS_NOTE}[/]", highlight=False)
    show()
    show(f"The best parameters of the sweep: {best}", highlight=False)
    for name, score in scores.items():
        show(f"  {name}: {score['mean_absolute_error_minutes']} minutes off, R² {score['r2']}", highlight=False)
    show(f"The picture: {picture_of(ON_RAY)}", highlight=False, soft_wrap=True)


@contextmanager
def store_folder(screen: Screen) -> Iterator[Path]:
    """A folder for the values of this demo alone: in shared memory if there is room."""
    parent = None
    if SHARED_MEMORY.is_dir():
        if shutil.disk_usage(SHARED_MEMORY).free >= STORE_BYTES_MIN:
            parent = SHARED_MEMORY
        else:
            screen.console.print(
                f"  ! {SHARED_MEMORY} has less than 512 MiB free, so values travel through files on a disk instead; "
                "in Docker, `--shm-size=2g` mends that",
                highlight=False,
            )
    folder = Path(tempfile.mkdtemp(prefix="airfreight-demo-", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
