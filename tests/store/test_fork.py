"""A store, its writers and what was read from it, on both sides of a fork."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

# A program of its own: forking pytest would fork its plugins' threads' locks, too.
_PRELUDE = """
import gc, os, pickle, sys
from airfreight._store import Store

store = Store(sys.argv[1] + "/store", spill_path=sys.argv[1] + "/spill", capacity_bytes=64 << 20)

def put(payload):
    with store.create() as writer:
        writer.add_buffer(pickle.PickleBuffer(payload))
        return writer.seal("{}")

def payload_of(name):
    return bytes(store.get(name).buffers[0])

def in_child(body):
    pid = os.fork()
    if pid == 0:
        try:
            body()
        except BaseException as error:
            print("child:", repr(error), flush=True)
            os._exit(1)
        gc.collect()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0, "the child failed"
"""


def run(tmp_path: Path, body: str) -> None:
    program = textwrap.dedent(_PRELUDE) + textwrap.dedent(body)
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_store_opened_before_works_on_both_sides(tmp_path: Path) -> None:
    run(
        tmp_path,
        """
        before = put(b"b" * 1_000_000)

        def child():
            assert payload_of(before) == b"b" * 1_000_000
            name = put(b"c" * 1_000_000)
            store.delete(before)
            open(sys.argv[1] + "/name", "w").write(name)

        in_child(child)
        assert not store.contains(before)
        assert payload_of(open(sys.argv[1] + "/name").read()) == b"c" * 1_000_000
        put(b"p" * 1_000_000)
        """,
    )


def test_a_child_that_drops_an_inherited_writer_leaves_the_parents_file_alone(tmp_path: Path) -> None:
    run(
        tmp_path,
        """
        writer = store.create()
        for _ in range(40):
            writer.write(b"s" * 100_000)  # longer than what waits in memory, so there is a file

        def child():
            global writer
            del writer

        in_child(child)
        name = writer.seal("{}")
        assert bytes(store.get(name).stream) == b"s" * 4_000_000
        used = store.stat()["used_bytes"]
        assert used >= 4_000_000, used
        """,
    )


def test_what_a_child_read_outlives_its_name_and_its_parent_s_copy(tmp_path: Path) -> None:
    run(
        tmp_path,
        """
        name = put(b"r" * 2_000_000)
        held = store.get(name).buffers[0]

        def child():
            store.delete(name)
            for fill in (b"x", b"y", b"z"):
                put(fill * 2_000_000)
            assert bytes(held) == b"r" * 2_000_000

        in_child(child)
        assert bytes(held) == b"r" * 2_000_000
        """,
    )
