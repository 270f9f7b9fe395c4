"""The ways of passing a value, by name, in the order of the tables."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from benches.peers.base import Peer

_PLACES = {
    "airfreight": "airfreight:Airfreight",
    "airfreight_empty_pool": "airfreight:AirfreightEmptyPool",
    "airfreight_unready_memory": "airfreight:AirfreightUnreadyMemory",
    "airfreight_elsewhere": "airfreight:AirfreightElsewhere",
    "airfreight_elsewhere_empty_pool": "airfreight:AirfreightElsewhereEmptyPool",
    "airfreight_store": "airfreight:AirfreightStore",
    "airfreight_without_preview": "airfreight:AirfreightWithoutPreview",
    "airfreight_xcom": "airfreight_xcom:AirfreightXCom",
    "vineyard": "vineyard:Vineyard",
    "ray": "ray:Ray",
    "airflow_object_storage": "airflow_object_storage:AirflowObjectStorage",
    "pickle_file": "pickle_file:PickleFile",
    "bare_file": "bare_file:BareFile",
    "np_save": "np_save:NumpySave",
    "arrow_ipc": "arrow_ipc:ArrowIpc",
    "memcpy_warm": "limits:MemcpyWarm",
    "memcpy_warm_two_threads": "limits:MemcpyWarmTwoThreads",
    "pwrite_fresh": "limits:PwriteFresh",
    "pwrite_recycled": "limits:PwriteRecycled",
    "populated_recycled": "limits:PopulatedRecycled",
}

NAMES = tuple(_PLACES)


def load(name: str) -> type[Peer]:
    """:param name: one of :data:`NAMES`, or ``module:Class`` for a peer that lives beside the benchmark that has it."""
    module, cls = _PLACES.get(name, name).split(":")
    return cast("type[Peer]", getattr(import_module(module if "." in module else f"benches.peers.{module}"), cls))
