"""What differs between the versions of Airflow, for everything about Ray."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airfreight.errors import DeniedError, InvalidError

if TYPE_CHECKING:
    from collections.abc import Iterator


def exceptions() -> Any:
    """The module with the exceptions that a task raises."""
    from airflow.sdk import exceptions as of_sdk

    if hasattr(of_sdk, "AirflowFailException"):
        return of_sdk
    from airflow import exceptions as of_core  # Airflow 3.0 and 3.1

    return of_core


@contextmanager
def no_retry_in_vain() -> Iterator[None]:
    """Tell Airflow not to retry what can't succeed."""
    try:
        yield
    except (DeniedError, InvalidError) as error:
        raise exceptions().AirflowFailException(str(error)) from error


def configuration() -> Any:
    """Airflow's configuration."""
    try:
        from airflow.sdk.configuration import conf
    except ImportError:  # Airflow 3.0 and 3.1
        from airflow.configuration import conf
    return conf


def default_deferrable() -> bool:
    """What ``[operators] default_deferrable`` says."""
    return bool(configuration().getboolean("operators", "default_deferrable", fallback=False))


def can_defer() -> bool:
    """Whether a trigger can read connections: Airflow 3.1 and later."""
    from airflow.sdk.definitions.connection import Connection

    return hasattr(Connection, "async_get")


def ends_refused_tasks() -> bool:
    """Whether a task's process ends as usual when Airflow refuses its last report: Airflow 3.2 and later."""
    from importlib.util import find_spec

    return find_spec("airflow.sdk.configuration") is not None


def tells_kills() -> bool:
    """Whether a trigger is told that its task was killed: Airflow 3.3 and later."""
    from airflow.triggers.base import BaseTrigger

    return hasattr(BaseTrigger, "on_kill")


def supervisor() -> Any:
    """What a trigger can ask its supervisor through; ``None`` outside of a triggerer."""
    from airflow.sdk.execution_time import task_runner

    comms = getattr(task_runner, "SUPERVISOR_COMMS", None)
    return comms if hasattr(comms, "asend") else None


def idle_request() -> Any:
    """A request of a trigger that asks nothing of its supervisor, on all versions: to keep nothing secret."""
    from airflow.sdk.execution_time.comms import MaskSecret

    return MaskSecret(value="")


def mask_secret(secret: str) -> None:
    """Keep a secret out of the logs of this process and of its supervisor."""
    from airflow.sdk import log

    if hasattr(log, "mask_secret"):
        log.mask_secret(secret)
        return
    from airflow.sdk.execution_time import secrets_masker  # type: ignore[attr-defined,unused-ignore] # Airflow 3.0

    secrets_masker.mask_secret(secret)
