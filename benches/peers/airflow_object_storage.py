"""Airflow's own way out for large values: ``XComObjectStorageBackend``, here on ``file://`` in shared memory."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from benches.peers.base import Peer


class AirflowObjectStorage(Peer):
    label = "XComObjectStorageBackend, file://"
    preload = ("airflow.sdk", "airflow.providers.common.io.xcom.backend")

    @classmethod
    def environment(cls, place: str) -> dict[str, str]:
        return {
            "AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_PATH": f"file://{place}",
            "AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_THRESHOLD": "0",
        }

    def put(self, value: Any) -> str:
        from airflow.providers.common.io.xcom.backend import XComObjectStorageBackend

        return str(
            XComObjectStorageBackend.serialize_value(
                value, key="return_value", task_id="extract", dag_id="flights", run_id="manual", map_index=-1
            )
        )

    def get(self, handle: str) -> Any:
        from airflow.providers.common.io.xcom.backend import XComObjectStorageBackend

        return XComObjectStorageBackend.deserialize_value(SimpleNamespace(value=handle))

    def delete(self, handle: str) -> None:
        from airflow.providers.common.io.xcom.backend import XComObjectStorageBackend

        XComObjectStorageBackend.purge(cast("Any", SimpleNamespace(value=handle)))
