"""Airfreight as Airflow calls it: the whole XCom backend, with its settings, its reference and the HMAC."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

from benches.peers.base import Peer


class AirfreightXCom(Peer):
    label = "Airfreight, XCom backend"
    keeps_memory = True
    # Airflow itself imports the backend, in the worker.
    preload = ("airflow.sdk", "airfreight.xcom")

    @classmethod
    def environment(cls, place: str) -> dict[str, str]:
        return {
            "AIRFLOW__AIRFREIGHT__STORE_PATH": f"{place}/store",
            "AIRFLOW__AIRFREIGHT__SPILL_PATH": f"{place}/spill",
        }

    def put(self, value: Any) -> str:
        from airfreight.xcom import AirfreightXCom as Backend

        row = Backend.serialize_value(
            value, key="return_value", task_id="extract", dag_id="flights", run_id="manual", map_index=-1
        )
        return json.dumps(row)

    def get(self, handle: str) -> Any:
        from airfreight.xcom import AirfreightXCom as Backend

        return Backend.deserialize_value(SimpleNamespace(value=json.loads(handle)))

    def delete(self, handle: str) -> None:
        from airfreight.xcom import AirfreightXCom as Backend

        Backend.purge(SimpleNamespace(value=json.loads(handle), key="return_value"))
