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
from typing import TYPE_CHECKING, Any

from rich.markup import escape

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "tests"))

from airflow_home import AirflowHome, AirflowHomeError  # noqa: E402 - it lives with the tests
from demo import journal, tables  # noqa: E402
from demo.screen import Screen, Step  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

DAG_ID = "flights"
DAGS = REPOSITORY / "examples" / "dags"
PICTURE = REPOSITORY / "build" / "demo" / "flights.png"
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
    except (AirflowHomeError, OSError) as error:
        text = "\n".join([str(error), *getattr(error, "__notes__", ())])
        screen.console.print(f"\n[red]The demo failed:[/] {escape(text)}", highlight=False, soft_wrap=True)
        return 1
    return 0


def run(screen: Screen) -> None:
    """Start Airflow, run the DAG, show what travelled, stop Airflow."""
    with store_folder(screen) as store:
        env = {
            "AIRFLOW__CORE__XCOM_BACKEND": "airfreight.xcom.AirfreightXCom",
            "AIRFLOW__AIRFREIGHT__STORE_PATH": str(store / "store"),
            "AIRFLOW__AIRFREIGHT__SPILL_PATH": str(store / "spill"),
        }
        with ExitStack() as running:
            with screen.step("Start Airflow: API server, scheduler, DAG processor, triggerer") as step:
                home = AirflowHome(DAGS, env=env, progress=lambda each: step.update(each.done, each.total, each.detail))
                airflow = running.enter_context(home)
            measured, times = fly(screen, airflow, store)
            with screen.step("Stop Airflow"):
                running.close()
    report(screen, measured, times)


def fly(screen: Screen, airflow: AirflowHome, store: Path) -> tuple[dict[str, Any], journal.Journal]:
    """Run the DAG and measure what its tasks passed on."""
    with screen.step(f"Run the DAG {DAG_ID}") as step:
        PICTURE.parent.mkdir(parents=True, exist_ok=True)
        PICTURE.unlink(missing_ok=True)
        run_id = airflow.trigger(DAG_ID, {"picture": str(PICTURE)})
        airflow.wait(DAG_ID, run_id, progress=lambda instances: show_tasks(step, instances))
    with screen.step("Send the same values through Airflow's own XCom"):
        times = journal.collect(airflow, DAG_ID, run_id)
        return measure(airflow, run_id, store / "store"), times


def show_tasks(step: Step, instances: list[dict[str, Any]]) -> None:
    done = sum(each["state"] == "success" for each in instances)
    running = [each["task_id"] for each in instances if each["state"] == "running"]
    step.update(done, max(len(instances), 1), ", ".join(running))


def measure(airflow: AirflowHome, run_id: str, store: Path) -> dict[str, Any]:
    """Run ``demo.measure`` the way a task runs: a process of its own in Airflow's environment."""
    request = {
        "dag_file": str(DAGS / f"{DAG_ID}.py"),
        "dag_id": DAG_ID,
        "run_id": run_id,
        "url": airflow.url,
        "store": str(store),
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


def report(screen: Screen, measured: dict[str, Any], times: journal.Journal) -> None:
    """Print the tables and where the picture is."""
    show = screen.console.print
    show()
    show(tables.received(measured["parameters"], measured["values"], times))
    show(f"[dim]{tables.RECEIVED_NOTE}[/]", highlight=False)
    show()
    show(tables.costs(measured["values"], times))
    show(f"[dim]{tables.COSTS_NOTE}[/]", highlight=False)
    for line in tables.refusals(measured["values"]):
        show(f"[dim]{escape(line)}[/]", highlight=False)
    show()
    show(f"The picture: {PICTURE}", highlight=False, soft_wrap=True)


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
