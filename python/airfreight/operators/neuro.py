"""The operator of ``neuro-airflow-plugin``: :class:`~airfreight.operators.apolo.ApoloRunOperator` as it was then."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airfreight.apolo.job import EX_PLATFORMERROR, JobFailed
from airfreight.apolo.links import BrowseLink
from airfreight.apolo.types import (
    DiskVolume,
    JobDescription,
    JobStatus,
    RemoteImage,
    Resources,
    SecretFile,
    Volume,
)
from airfreight.operators.apolo import ApoloRunOperator

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "EX_PLATFORMERROR",
    "BrowseLink",
    "DiskVolume",
    "JobDescription",
    "JobFailed",
    "JobStatus",
    "NeuroRunOperator",
    "RemoteImage",
    "Resources",
    "SecretFile",
    "Volume",
]


class NeuroRunOperator(ApoloRunOperator):
    """
    :class:`~airfreight.operators.apolo.ApoloRunOperator` with the old defaults.

    :param neuro_conn_id: the Airflow connection.
    :param kill_on_error: whether the job is cancelled when its task is killed or fails; by default it goes on.
    """

    template_fields: Sequence[str] = tuple(
        "neuro_conn_id" if name == "apolo_conn_id" else name for name in ApoloRunOperator.template_fields
    )

    def __init__(self, *, neuro_conn_id: str = "neuro_default", kill_on_error: bool = False, **kwargs: Any) -> None:
        super().__init__(kill_on_error=kill_on_error, **kwargs)
        self.neuro_conn_id = neuro_conn_id

    @property
    def conn_id(self) -> str:
        """The Airflow connection."""
        return self.neuro_conn_id
