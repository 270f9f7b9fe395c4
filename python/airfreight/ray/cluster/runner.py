"""
The runner: a Ray job that holds an actor, and the actor, which passes requests on to the owners of values.

It keeps nothing that must survive it. The job's driver has to stay: when a job ends, Ray kills the idle workers that it
had, and every later task of its actors pays for a new one.
"""

from __future__ import annotations

import os
import platform
import secrets
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

from . import mailbox, place, running
from .events import Events
from .exports import Exports
from .owners import Owners
from .problem import Problem
from .routes import Router
from .server import Server
from .uploads import Uploads

if TYPE_CHECKING:
    Record = dict[str, Any]

PROTOCOL = 1
_HOLD_SECONDS = 20.0
_IDLE_SECONDS = 900.0
_LOOK_SECONDS = 1.0
#: How many processes are to wait for work, and how long they are kept busy so that Ray starts that many.
_AHEAD = 2
_AHEAD_SECONDS = 0.2


class Runner:
    """
    The actor.

    :param runner_id: the actor's name.
    :param job: the submission id of the job that has started it.
    :param generation: the actor's, the same after a restart.
    :param port: its own port; 0: any.
    :param idle_seconds: without a request or a call for so long, it ends; 0: never.
    """

    def __init__(self, runner_id: str, job: str, generation: str, port: int, idle_seconds: float) -> None:
        import ray

        self._idle_seconds = idle_seconds
        token = secrets.token_hex(32)
        epoch = secrets.token_hex(8)
        folder = mailbox.folder(generation)
        events = Events(epoch, os.path.join(folder, "events.jsonl"))
        self._owners = Owners(events)
        self._owners.find_all()
        who = {"protocol": PROTOCOL, "runner": runner_id, "generation": generation, "epoch": epoch}
        self._exports = Exports(self._owners, folder, f"airfreight/{generation}")
        self._uploads = Uploads(self._owners, place.scratch("uploads"))
        self._router = Router(self._owners, events, self._exports, self._uploads)
        server = Server(self._router, port, token, who)
        mailbox.Mailbox(self._router, runner_id, token, folder)
        place.publish(
            _file(runner_id),
            {
                **who,
                "node_id": place.node_id(),
                "node_ip": ray.util.get_node_ip_address(),
                "port": server.port,
                "token": token,
                "python": platform.python_version(),
                "ray": ray.__version__,
                "pid": os.getpid(),
                "job": job,
            },
        )

    def hold(self, wait: float) -> str:
        """Returns after a while, or when there is something to do: ``hold`` on, ``prepare`` processes, or ``end``."""
        deadline = time.monotonic() + wait
        while time.monotonic() < deadline:
            if self._owners.needs_processes():
                return "prepare"
            if self._router.ended.wait(min(_LOOK_SECONDS, wait)) or self._is_idle():
                return "end"
            self._exports.clean()
            self._uploads.clean()
        return "hold"

    def owner(self, name: str, info: Record) -> str:
        """Makes the owner of a DAG run, for a job whose value is to stay in the cluster; gives its generation."""
        handle = self._owners.make({"name": name, **info})
        generation: str = self._owners.ask_handle(name, handle, "about")["generation"]
        return generation

    def _is_idle(self) -> bool:
        idle = time.monotonic() - self._router.used_at
        return 0 < self._idle_seconds < idle and not self._busy()

    def _busy(self) -> bool:
        for name in self._owners.names():
            try:
                if self._owners.ask(name, "about")["running"]:
                    return True
            except Problem as problem:
                if problem.kind != "Lost":
                    return True
        return False


def hold() -> None:
    """The job: starts the actor and stays until nobody has wanted anything of it for a while."""
    import ray

    runner_id = os.environ["AIRFREIGHT_RUNNER_ID"]
    ray.init(namespace=place.NAMESPACE, log_to_driver=False)
    generation = secrets.token_hex(8)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    actor, code = None, None
    try:
        while code is None:
            _end_former(runner_id)
            # It would send clients to a port that nobody answers.
            _remove(_file(runner_id))
            actor = _make(runner_id, generation)
            code = _hold(actor)
    finally:
        _remove(_file(runner_id))
        if actor is not None:
            ray.kill(actor, no_restart=True)
        sys.stdout.flush()
        sys.stderr.flush()
        # An orderly end takes Ray a second.
        os._exit(1 if code is None else code)


def _make(runner_id: str, generation: str) -> Any:
    import ray

    return (
        ray.remote(Runner)
        .options(
            name=runner_id,
            namespace=place.NAMESPACE,
            lifetime="detached",
            num_cpus=0,
            # When memory runs short, Ray ends what it may restart before it ends what takes it. So `hold` restarts it.
            max_restarts=0,
            # One thread holds; the others make owners for jobs.
            max_concurrency=16,
            resources=place.on_head(0.001),
        )
        .remote(
            runner_id,
            os.environ.get("AIRFREIGHT_RUNNER_JOB") or runner_id,
            generation,
            int(os.environ.get("AIRFREIGHT_RUNNER_PORT") or 0),
            float(os.environ.get("AIRFREIGHT_RUNNER_IDLE_SECONDS") or _IDLE_SECONDS),
        )
    )


def _hold(actor: Any) -> int | None:
    """Stays as long as the actor does; gives the job's exit code, or ``None`` where the actor has died of something."""
    import ray

    # A version of Ray that doesn't have it raises nothing for what passes.
    unavailable = getattr(ray.exceptions, "ActorUnavailableError", ())
    has_begun = False
    while True:
        try:
            wanted = ray.get(actor.hold.remote(_HOLD_SECONDS if has_begun else 0.0))
            has_begun = True
            if wanted == "end":
                print("nobody has asked for anything: the runner ends")
                return 0
            if wanted == "prepare":
                _prepare()
        except unavailable:
            time.sleep(0.2)
        except ray.exceptions.RayActorError as error:
            print(f"the runner has ended: {error}", file=sys.stderr, flush=True)
            # What dies before it has answered does so again.
            return None if has_begun else 1


def _prepare() -> None:
    """
    Has Ray start processes ahead of time, for the first functions of the next DAG runs.

    A process that has first worked for a detached actor, as the runner is, is given to no other one, such as an owner;
    one that has first worked for the job's driver is given to all of them.
    """
    ahead = running.remote("nothing")
    for _ in range(_AHEAD):
        ahead.remote(_AHEAD_SECONDS)


def _file(runner_id: str) -> str:
    """Where a runner says how it can be reached."""
    return os.path.join(place.logs(), "airfreight", f"{runner_id}.json")


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass


def _end_former(runner_id: str) -> None:
    """A runner whose job is gone is slow: its workers end with each call. Waits until the name is free."""
    import ray

    try:
        former = ray.get_actor(runner_id, namespace=place.NAMESPACE)
    except ValueError:
        return
    ray.kill(former, no_restart=True)
    while True:
        try:
            ray.get_actor(runner_id, namespace=place.NAMESPACE)
        except ValueError:
            return
        time.sleep(0.05)
