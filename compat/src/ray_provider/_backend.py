"""``RayBackend``: the XCom backend under its old name, with callbacks that have nothing left to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airfreight.xcom import AirfreightXCom
from ray_provider import _environment

if TYPE_CHECKING:
    from collections.abc import Mapping

_environment.explain()


class RayBackend(AirfreightXCom):
    """
    Airfreight's backend: values stay in shared memory, Ray or not.

    The old one kept an actor on the cluster, which the callbacks had to kill. There is none, so they do nothing and
    may be dropped from ``default_args``.
    """

    conn_id = _environment.connection()
    store_identifier = _environment.DEFAULT_STORE

    @staticmethod
    def get_hook() -> Any:
        """The hook of the connection that the old backend would have used."""
        from ray_provider._client_hook import RayClientHook

        return RayClientHook(ray_conn_id=RayBackend.conn_id)

    @staticmethod
    def generate_object_key(key: str, task_id: str, dag_id: str) -> str:
        """The key that the old store had for a value."""
        return f"{key}_{task_id}_{dag_id}"

    @staticmethod
    def on_success_callback(context: Mapping[str, Any]) -> None:
        """Nothing: Airfreight frees values when nobody needs them any more."""

    @staticmethod
    def on_failure_callback(context: Mapping[str, Any]) -> None:
        """Nothing: values stay, so that the failed task can be cleared."""

    @staticmethod
    def on_retry_callback(context: Mapping[str, Any]) -> None:
        """Nothing: the next try reads what the tasks above returned."""
