"""``RayClientHook``: the hook of ``airflow-provider-ray`` over the Jobs API, since there is no Ray to connect from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airfreight.hooks.ray import RayHook
from ray_provider import _environment

if TYPE_CHECKING:
    from collections.abc import Iterable


class RayClientHook(RayHook):
    """
    Reaches the cluster of a connection.

    :param ray_conn_id: the connection: of type ``ray``, or the HTTP connection that the old hook had.
    """

    def __init__(self, ray_conn_id: str = "ray_default") -> None:
        _environment.explain()
        super().__init__(ray_conn_id)
        self.ray_conn_id = ray_conn_id
        self.base_url: str | None = None

    def get_conn(self) -> Any:
        """The connection; its address is in ``base_url`` from then on."""
        self.base_url = self.address
        return self.get_connection(self.ray_conn_id)

    def connect(self) -> None:
        """Ask the cluster for its version, which fails as connecting did."""
        self.base_url = self.address
        self.log.info("Ray %s answers at %s", self.ray_client().cluster()["ray_version"], self.base_url)

    def disconnect(self) -> None:
        """Nothing: no session with the cluster was opened."""

    def cleanup(self, handles: Iterable[Any] | None = None) -> None:
        """Nothing: there is no actor that holds the values of other tasks."""
