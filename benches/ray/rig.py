"""What the benches run on: one Ray, an Airflow for each provider, servers that answer as Ray does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from benches import venvs

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT / "tests") not in sys.path:
    sys.path.insert(0, str(ROOT / "tests"))

from airflow_home import AirflowHome  # noqa: E402 - they live with the tests
from ray_home import RayHome  # noqa: E402
from ray_home.fault_server import FaultServer  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

HERE = Path(__file__).resolve().parent
#: What Ray answers slowly, as measured on a real one: so much for each job of a list, and for any other call.
LIST_MS_PER_JOB, CALL_MS = 0.4, 4
#: What Ray tells of a job has so many bytes.
RECORD_BYTES = 880
CONNECTION = "ray_bench"


class Astro:
    """astro-provider-ray in an environment of its own, with the Airflow and the Ray that the others have."""

    venv = ".venvs/bench-astro"
    requires = ("apache-airflow==3.3.2", "astro-provider-ray==0.4.0", "ray[default]==2.60.0")
    python = None


class Rig:
    """
    Starts each thing when it is first wanted, and stops all of them at the end.

    :param say: told of what is being done.
    """

    def __init__(self, say: Callable[[str], None], airfreight: Path) -> None:
        self.say = say
        #: Ours by name: where a program that uses it finds its Python.
        self.pythons = {"airfreight": Path(sys.executable)}
        self.airfreight = airfreight
        #: Why astro's provider doesn't take part, if it doesn't.
        self.missing: str | None = None
        self._stack = ExitStack()
        self._airflows: dict[str, AirflowHome] = {}
        self._is_built = False

    def __enter__(self) -> Self:
        try:
            venvs.install(Astro, self.say)
            self.pythons["astro"] = ROOT / Astro.venv / "bin" / "python"
        except (RuntimeError, OSError) as error:
            self.missing = str(error)
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    @cached_property
    def ray(self) -> RayHome:
        """A real cluster, large enough that no job waits for another one."""
        self.say("starting Ray")
        ray = self._stack.enter_context(RayHome.start(num_cpus=8))
        # The first job starts the agent's own connection to Ray, which nobody's job should pay for.
        ray.request("POST", "/api/jobs/", {"entrypoint": "true", "submission_id": "first"})
        ray.wait_for_job("first")
        return ray

    @property
    def ray_python(self) -> Path:
        return self.ray.venv / "bin" / "python"

    def airflow(self, provider: str) -> AirflowHome:
        """An Airflow in which one of the providers is installed, connected to :attr:`ray`."""
        if provider not in self._airflows:
            address = self.ray.address
            self.say(f"starting an Airflow with {provider}")
            env = environment(provider, address)
            home = AirflowHome(
                [HERE / "dags" / "both", HERE / "dags" / provider],
                env=env,
                venv=self.pythons[provider].parents[1],
                parallelism=8,
            )
            # A harness that takes the environment of this process, whose paths are ours.
            home.env["PYTHONPATH"] = env["PYTHONPATH"]
            self._airflows[provider] = self._stack.enter_context(home)
        return self._airflows[provider]

    def fault_server(self) -> FaultServer:
        """A dashboard that needs as long as Ray's and can have any number of running jobs; for a `with`."""
        options = f"--list-ms-per-job={LIST_MS_PER_JOB}", f"--call-ms={CALL_MS}"
        if self._is_built:
            return FaultServer(options)
        self._is_built = True
        return FaultServer.start(*options)

    def program(self, provider: str, module: str, address: str, arguments: Mapping[str, Any]) -> Program:
        """A module of this package in a process of its own, in the environment of a provider or of Ray."""
        env = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW_", "RAY_"))}
        env |= environment(provider, address) | {"AIRFLOW_HOME": str(self._home), "NO_COLOR": "1"}
        python = self.ray_python if provider == "ray" else self.pythons[provider]
        return Program(python, module, {**arguments, "address": address}, env)

    @cached_property
    def _home(self) -> Path:
        import tempfile

        return Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="airfreight-bench-home-")))

    @property
    def providers(self) -> list[str]:
        return list(self.pythons)


def environment(provider: str, address: str) -> dict[str, str]:
    """What a process of Airflow needs to reach a cluster through a provider."""
    paths = [str(ROOT)]
    if provider == "airfreight":
        # Where the Airfreight under measurement is, unless it is installed.
        paths += filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    return {
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)),
        f"AIRFLOW_CONN_{CONNECTION.upper()}": json.dumps({"conn_type": "ray", "extra": {"address": address}}),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    }


class Program:
    """
    A process that reports in lines of JSON and may be told to go on.

    :param arguments: handed over as JSON.
    """

    def __init__(self, python: Path, module: str, arguments: Mapping[str, Any], env: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [python, "-m", f"benches.ray.{module}", json.dumps(arguments)],
            cwd=ROOT, env={name: value for name, value in env.items() if name != "PYTHONDONTWRITEBYTECODE"},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.pid = self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def reports(self) -> Iterator[dict[str, Any]]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            # Libraries may print, too.
            if line.startswith('{"report"'):
                yield json.loads(line)

    def report(self, name: str) -> dict[str, Any]:
        """
        The next report of that name.

        :raises RuntimeError: the process has ended without one.
        """
        for report in self.reports():
            if report["report"] == name:
                return report
        raise RuntimeError(f"the process has ended, with {self._process.wait()}, before it said {name!r}")

    def tell(self, word: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(word + "\n")
        self._process.stdin.flush()

    def processor_seconds(self) -> float:
        """What all its threads have used so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_bytes(self) -> int:
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
