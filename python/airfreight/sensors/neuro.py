"""The sensors of ``neuro-airflow-plugin``: those for Apolo under their old names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airfreight.apolo.types import JobDescription, JobStatus
from airfreight.sensors.apolo import ApoloJobSensor, ApoloJobStatusSensor

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["JobDescription", "JobStatus", "NeuroJobSensor", "NeuroJobStatusSensor"]


class NeuroJobSensor(ApoloJobSensor):
    """
    :class:`~airfreight.sensors.apolo.ApoloJobSensor` with the old connection.

    :param neuro_conn_id: the Airflow connection.
    """

    template_fields: Sequence[str] = ("job_id", "neuro_conn_id")

    def __init__(self, *, neuro_conn_id: str = "neuro_default", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.neuro_conn_id = neuro_conn_id

    @property
    def conn_id(self) -> str:
        """The Airflow connection."""
        return self.neuro_conn_id


class NeuroJobStatusSensor(ApoloJobStatusSensor):
    """
    :class:`~airfreight.sensors.apolo.ApoloJobStatusSensor` with the old connection.

    :param neuro_conn_id: the Airflow connection.
    """

    template_fields: Sequence[str] = ("job_id", "neuro_conn_id")

    def __init__(self, *, neuro_conn_id: str = "neuro_default", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.neuro_conn_id = neuro_conn_id

    @property
    def conn_id(self) -> str:
        """The Airflow connection."""
        return self.neuro_conn_id
