"""
Goal: the door stands what Airflow does to its processes: forks, signals, threads and sudden ends.

Method: programs of their own, since what is tested would take pytest along.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ray_home.fault_server import FaultServer

_PRELUDE = """
import os, signal, sys, threading, time
from airfreight._remote import RayClient

client = RayClient(sys.argv[1], timeout=20, patience=60)

def in_child(body):
    pid = os.fork()
    if pid == 0:
        try:
            body()
        except BaseException as error:
            print("child:", repr(error), flush=True)
            os._exit(1)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0, "the child failed"

def to_the_end(watch):
    lines = []
    while (event := watch.next(30))["event"] != "ended":
        lines += event.get("lines", [])
    return lines
"""


def run(server: FaultServer, body: str) -> str:
    program = textwrap.dedent(_PRELUDE) + textwrap.dedent(body)
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "ignore::DeprecationWarning", "-c", program, server.address],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_client_works_on_both_sides_of_a_fork(server: FaultServer) -> None:
    server.add_job("a", states=[[0, "RUNNING"], [500, "SUCCEEDED"]], log="one\ntwo\n")
    run(
        server,
        """
        assert len(client.jobs()) == 1
        watch = client.watch("a")
        assert watch.next()["event"] == "status"

        def child():
            assert len(client.jobs()) == 1
            assert to_the_end(client.watch("a"))[-1] == "two"
            in_child(lambda: client.jobs())
            try:
                watch.next()
            except ValueError as error:
                assert "forked" in str(error)
            else:
                raise AssertionError("the parent's watch was usable")

        in_child(child)
        assert to_the_end(watch)[-1] == "two"
        in_child(child)
        """,
    )


def test_a_signal_s_handler_runs_while_a_call_waits(server: FaultServer) -> None:
    server.add_job("a", states=[[0, "RUNNING"]])
    server.control("POST", "", {"path": "/api/jobs/b", "hang": True})
    run(
        server,
        """
        class Stop(BaseException):
            pass

        stopped = []

        def handler(signum, frame):
            # What an operator's on_kill does.
            stopped.append(client.stop("a"))
            raise Stop

        signal.signal(signal.SIGTERM, handler)
        watch = client.watch("b")
        for wait in (lambda: client.job("b"), lambda: watch.next()):
            threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
            try:
                wait()
            except Stop:
                pass
            else:
                raise AssertionError("the handler was not heard")
        assert stopped == [True, False]
        """,
    )


def test_other_threads_run_while_one_waits(server: FaultServer) -> None:
    server.add_job("a", states=[[0, "RUNNING"], [1000, "SUCCEEDED"]])
    run(
        server,
        """
        count = 0
        done = False

        def other():
            global count
            while not done:
                count += 1
                time.sleep(0.001)

        thread = threading.Thread(target=other)
        thread.start()
        to_the_end(client.watch("a"))
        done = True
        thread.join()
        assert count > 100, count
        """,
    )


def test_a_program_may_end_in_the_midst_of_it(server: FaultServer) -> None:
    server.add_job("a", states=[[0, "RUNNING"]], log_lines_per_second=2000)
    for end in ("pass", "sys.exit(0)", "os._exit(0)"):
        run(server, f"watches = [client.watch('a') for _ in range(20)]\nwatches[0].next()\n{end}")
    run(
        server,
        """
        import asyncio

        async def main():
            watch = client.watch("a")
            tasks = [asyncio.ensure_future(client.watch("a").anext()) for _ in range(20)]
            await watch.anext()
            await watch.anext()

        asyncio.run(main())
        asyncio.run(main())
        """,
    )


def test_importing_starts_and_opens_nothing(server: FaultServer) -> None:
    program = (
        "import os, threading\n"
        "before = (len(os.listdir('/proc/self/task')), len(os.listdir('/proc/self/fd')))\n"
        "from airfreight._remote import RayClient\n"
        f"client = RayClient('{server.address}')\n"
        "assert (len(os.listdir('/proc/self/task')), len(os.listdir('/proc/self/fd'))) == before\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
