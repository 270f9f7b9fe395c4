"""Where ``airflow-provider-ray`` had its XCom backend."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray_provider._moved import Moved, moved

if TYPE_CHECKING:
    from ray_provider._backend import RayBackend

__all__ = ["RayBackend"]

__getattr__ = moved(
    __name__, {"RayBackend": Moved("airfreight.xcom.AirfreightXCom", "ray_provider._backend.RayBackend")}
)
