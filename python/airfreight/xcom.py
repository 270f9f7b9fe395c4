"""
The XCom backend: ``[core] xcom_backend = airfreight.xcom.AirfreightXCom``.

Every component of Airflow imports this module; only tasks, and triggers that pull, call it. Importing it starts
nothing and opens nothing, and needs no library of the values'.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow.sdk.bases.xcom import BaseXCom

from airfreight.errors import AirfreightError

# A task is a fork of the process that imports this, so what is imported here no task has to import. Whatever is wrong
# with the installation must not break Airflow's own import: who needs the missing part says so.
with suppress(ImportError):
    from airfreight import _store, codec, keys, origin, rows  # noqa: F401
    from airfreight.codec import elementwise, memory, plain, stream  # noqa: F401
    from airfreight.codec.reducers import numpy, pandas, pyarrow, strings  # noqa: F401

if TYPE_CHECKING:
    from airfreight.origin import Coordinates

log = logging.getLogger(__name__)

#: The scheduler reads this key's row itself, when a branch that was skipped is cleared.
_SKIP_KEY = "skipmixin_key"
_LINK_PREFIX = "_link_"

#: The row that :meth:`AirfreightXCom.delete` is deleting: ``purge`` is not told.
_deleting: ContextVar[Coordinates | None] = ContextVar("airfreight_deleting", default=None)


class _Stored(NamedTuple):
    """A row's value in the shape in which Airflow passes it to ``deserialize_value``."""

    value: Any


class AirfreightXCom(BaseXCom):
    """
    Keeps large values in this host's shared memory and small ones in Airflow's database.

    Works with both contracts of Airflow: ``serialize_value`` and ``deserialize_value`` up to 3.3, ``store_value`` and
    ``load_value`` from 3.4 on, where loops need them.
    """

    @staticmethod
    def serialize_value(
        value: Any,
        *,
        key: str | None = None,
        task_id: str | None = None,
        dag_id: str | None = None,
        run_id: str | None = None,
        map_index: int | None = None,
    ) -> Any:
        """What the XCom row of a value holds, up to Airflow 3.3."""
        if _is_airflows_own(key):
            return BaseXCom.serialize_value(value)
        from airfreight import rows
        from airfreight.origin import coordinates, origin_at

        return rows.write(value, origin_at(coordinates(dag_id, run_id, task_id, map_index, key)))

    @classmethod
    def store_value(cls, coordinate: Any, key: str, value: Any) -> Any:
        """What the XCom row of a value holds, from Airflow 3.4 on."""
        if _is_airflows_own(key):
            return BaseXCom.serialize_value(value)
        from airfreight import rows
        from airfreight.origin import origin_of

        return rows.write(value, origin_of(coordinate, key))

    @staticmethod
    def deserialize_value(result: Any) -> Any:
        """The value that an XCom row stands for."""
        from airfreight import references, rows

        if references.is_row(result.value):
            return rows.read(result.value)
        # Written by the backend before this one, through the REST API, or small.
        return BaseXCom.deserialize_value(result)

    @classmethod
    def load_value(cls, stored: Any) -> Any:
        """The value that an XCom row stands for, from Airflow 3.4 on."""
        from airfreight import references, rows

        return rows.read(stored) if references.is_row(stored) else BaseXCom.deserialize_value(_Stored(stored))

    @classmethod
    def delete(cls, key: str, task_id: str, dag_id: str, run_id: str, map_index: int | None = None) -> None:
        """Delete a row, and what it refers to."""
        from airfreight.origin import coordinates

        token = _deleting.set(coordinates(dag_id, run_id, task_id, map_index, key))
        try:
            super().delete(key, task_id, dag_id, run_id, map_index)
        finally:
            _deleting.reset(token)

    @classmethod
    def purge(cls, xcom: Any, *args: Any) -> None:  # noqa: ARG003 - Airflow's signature
        """Delete what a row refers to. What can't be deleted now expires; the task that runs again must not fail."""
        from airfreight import references, rows

        stored = getattr(xcom, "value", None)
        if not references.is_row(stored):
            return
        try:
            rows.purge(stored, _deleting.get())
        except AirfreightError as error:
            log.warning("left the object of a replaced XCom to expire: %s", error)


def _is_airflows_own(key: str | None) -> bool:
    return key is not None and (key == _SKIP_KEY or key.startswith(_LINK_PREFIX))
