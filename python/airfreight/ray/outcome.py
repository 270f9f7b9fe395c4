"""What became of a function on the cluster: its value, or its exception, out of the job's log."""

from __future__ import annotations

import json
import sys
from binascii import Error as Base64Error
from binascii import a2b_base64, crc32
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from airfreight.codec import plain
from airfreight.codec.stream import load
from airfreight.errors import AirfreightError, CorruptError, DeniedError, InternalError, InvalidError, ObjectLostError
from airfreight.ray import remote, skew
from airfreight.ray.report import MARK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

# The record is the last line, unless something that the function has started goes on printing.
_LAST_LINES = (30, 1000, 1_000_000)


class Client(Protocol):
    """What is asked of the cluster."""

    def last_lines(self, submission_id: str, lines: int) -> list[str]: ...

    def log_file(self, node_id: str, name: str) -> bytes: ...


class Outcome:
    """
    What the driver has reported of a job.

    :param client: reads logs.
    :param job: the job, as Ray describes it.
    :param name: the function's.
    :param left: what to make of a record whose result has stayed in the cluster.
    """

    def __init__(
        self,
        client: Client,
        job: Mapping[str, Any],
        name: str,
        left: Callable[[Mapping[str, Any]], Any] | None = None,
    ) -> None:
        self._client = client
        self._job = job
        self._name = name
        self._left = left
        self._id = str(job["submission_id"])
        metadata = job.get("metadata") or {}
        #: What no program prints by accident.
        self._prefix = f"{MARK}{metadata.get('airfreight_nonce', '-')} "
        self.record = self._find()

    def value(self, function: Callable[..., Any] | None = None, *, allow_pickle: bool = True) -> Any:
        """
        The function's result.

        :param function: the function here: what its file defines is found in its module.
        :param allow_pickle: ``False`` refuses what could run code when it is read.
        :raises ObjectLostError: it can't be had any more.
        :raises InvalidError: it can't be read with the libraries of this process; both versions are named.
        :raises CorruptError: it isn't what the driver has written.
        """
        if self.record is None:
            raise ObjectLostError(
                f"Ray job {self._id} has succeeded, but its log doesn't end with the result of {self._name}",
                "the function must not end the process itself (os._exit), nor close or replace its standard output",
            )
        self._raise_refusal()
        result = self.record["result"]
        if "json" in result:
            return result["json"]
        if "value" in result:
            if self._left is None:
                raise InternalError(f"the result of {self._name} has stayed in the cluster unasked")
            return self._left(self.record)
        skew.check_result(self.record["python"], self.record["libraries"], self._name)
        data = memoryview(self._bytes(result))
        if len(data) != result["nbytes"]:
            raise CorruptError(
                f"the result of {self._name} has {len(data)} of {result['nbytes']} bytes in the log of Ray job "
                f"{self._id}",
                "rerun the task",
            )
        pieces = [data[start : start + length] for start, length in result["places"]]
        if plain.is_plain(pieces[0]):
            return plain.decode(pieces[0], pieces[1:])
        if not allow_pickle:
            raise DeniedError(
                f"the result of {self._name} is a pickle, and [airfreight] allow_pickle is false here, or that of the "
                "connection",
                "clear the task to run it again, which then returns only what needs no pickle; or allow pickle",
            )
        with _known_as(self.record.get("module"), function):
            return load(pieces[0], pieces[1:])

    def error(self, function: Callable[..., Any] | None = None) -> Exception | None:
        """The exception with which the function has failed, or what kept it from being called; ``None``: not known."""
        if self.record is None:
            return None
        try:
            self._raise_refusal()
        except AirfreightError as refusal:
            return refusal
        if "error" not in self.record:
            return None
        with _known_as(self.record.get("module"), function):
            return remote.rebuild(self.record["error"])

    def _raise_refusal(self) -> None:
        refused = (self.record or {}).get("refused")
        if refused is not None:
            raise InvalidError(f"{self._name} can't run on the Ray cluster: {refused['message']}", refused["hint"])

    def _find(self) -> dict[str, Any] | None:
        if isinstance(told := self._job.get("record"), dict):
            return told
        for count in _LAST_LINES:
            lines = self._client.last_lines(self._id, count)
            for line in reversed(lines):
                if line.startswith(self._prefix) and line[len(self._prefix) :].startswith("{"):
                    try:
                        found: dict[str, Any] = json.loads(line[len(self._prefix) :])
                    except ValueError:
                        continue
                    return found
            if len(lines) < count:
                break
        return None

    def _bytes(self, result: dict[str, Any]) -> bytearray:
        if "inline" in result:
            return bytearray(a2b_base64(result["inline"]))
        if "file" in result:
            return self._joined(self._file(result["file"]).splitlines(), result["chunks"], result["nbytes"])
        prefix = f"{self._prefix}= "
        lines = self._client.last_lines(self._id, result["lines"] + _LAST_LINES[1])
        ours = [line[len(prefix) :].encode() for line in lines if line.startswith(prefix)]
        return self._joined(ours, result["lines"], result["nbytes"])

    def _file(self, name: str) -> bytes:
        node = self._job.get("driver_node_id")
        if not node:
            raise InternalError(f"Ray doesn't say on which node job {self._id} ran, so its result can't be read")
        try:
            return self._client.log_file(str(node), name)
        except LookupError as error:
            raise ObjectLostError(
                f"the result of {self._name} is in {name} beside the log of Ray job {self._id}, and that file is gone",
                "the node may have left the cluster, or a day has passed: clear the task to run it again",
            ) from error

    def _joined(self, lines: Iterable[bytes], count: int, nbytes: int) -> bytearray:
        data = bytearray()
        found = 0
        for line in lines:
            checksum, _, text = line.partition(b" ")
            try:
                chunk = a2b_base64(text)
                intact = crc32(chunk) == int(checksum, 16)
            except (Base64Error, ValueError):
                chunk, intact = b"", False
            if not intact:
                raise CorruptError(
                    f"a part of the result of {self._name} has changed on its way from Ray job {self._id}: chunk "
                    f"{found + 1} of {count}",
                    "rerun the task",
                )
            data += chunk
            found += 1
        if found != count:
            raise CorruptError(
                f"the result of {self._name} came with {found} of {count} chunks from Ray job {self._id} "
                f"({nbytes} bytes)",
                "rerun the task",
            )
        return data


@contextmanager
def _known_as(name: str | None, function: Callable[..., Any] | None) -> Iterator[None]:
    """
    Lets a value name the module of the function's DAG file as the worker knew it that submitted the job.

    Airflow names it after the file's path, and another host may have the file elsewhere.
    """
    own = sys.modules.get(getattr(function, "__module__", None) or "")
    if name is None or own is None or name in sys.modules:
        yield
        return
    sys.modules[name] = own
    try:
        yield
    finally:
        del sys.modules[name]
