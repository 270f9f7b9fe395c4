"""A job as an operator describes it, in the words of the client."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from airfreight.errors import InvalidError

if TYPE_CHECKING:
    from collections.abc import Mapping

_RESOURCES = (
    "nvidia_gpu",
    "nvidia_gpu_model",
    "amd_gpu",
    "amd_gpu_model",
    "intel_gpu",
    "intel_gpu_model",
)


def image(given: Any) -> dict[str, Any]:
    """An image: a text, or an object that knows how a container runtime names it."""
    if isinstance(given, str):
        return {"image": given}
    if hasattr(given, "as_docker_url"):
        return {"image": str(given), "docker_image": given.as_docker_url()}
    raise InvalidError(f"job_image is neither a text nor a RemoteImage: {given!r:.80}")


def volume(given: Any) -> Any:
    """A volume: a text, or an object with a URI and a path."""
    if isinstance(given, str):
        return given
    for name in ("storage_uri", "disk_uri", "secret_uri"):
        if (uri := getattr(given, name, None)) is not None:
            return {
                "uri": str(uri),
                "container_path": str(given.container_path),
                "read_only": bool(getattr(given, "read_only", False)),
            }
    raise InvalidError(
        f"job_volumes has something that is no volume: {given!r:.80}", "write storage:PATH:/MOUNT, or a Volume"
    )


def volumes(given: Any) -> list[Any]:
    """The volumes: a list, or the JSON that a template has made of it."""
    if isinstance(given, str):
        given = _json("job_volumes", given, list)
    return [volume(each) for each in given or ()]


def resources(given: Any) -> dict[str, Any]:
    """Resources of ours or of the SDK's, old or new."""
    memory = getattr(given, "memory", None)
    if memory is None:
        memory = int(given.memory_mb) << 20
    found: dict[str, Any] = {"memory": memory, "cpu": given.cpu, "shm": bool(getattr(given, "shm", True))}
    for name in _RESOURCES:
        if value := getattr(given, name, None):
            found[name] = value
    for name in ("gpu", "gpu_model"):
        # An object of an SDK that knew no others.
        if f"nvidia_{name}" not in found and (value := getattr(given, name, None)):
            found[f"nvidia_{name}"] = value
    if getattr(given, "tpu_type", None):
        found["tpu"] = {"type": given.tpu_type, "software_version": given.tpu_software_version}
    return found


def mapping(name: str, given: Any) -> dict[str, str]:
    """A dict of texts, or the JSON that a template has made of it."""
    if isinstance(given, str):
        given = _json(name, given, dict) if given.strip() else {}
    found: Mapping[str, Any] = given or {}
    return {str(key): str(value) for key, value in found.items()}


def port(given: Any) -> int | None:
    """A port, or the text that a template has made of it; an empty one is none."""
    if given is None or (isinstance(given, str) and given.strip() in ("", "None")):
        return None
    try:
        return int(given)
    except (TypeError, ValueError):
        raise InvalidError(f"job_http_port={given!r:.80} is not a port") from None


def seconds(name: str, given: Any) -> float | None:
    """A number of seconds, a timedelta, or the text that a template has made of one."""
    if given is None or (isinstance(given, str) and not given.strip()):
        return None
    if hasattr(given, "total_seconds"):
        return float(given.total_seconds())
    try:
        return float(given)
    except (TypeError, ValueError):
        raise InvalidError(f"{name}={given!r:.80} is not a number of seconds") from None


def word(given: Any) -> str | None:
    """A word, or a member of one of the SDK's enumerations."""
    if given is None:
        return None
    value = getattr(given, "value", given)
    text = value if isinstance(value, str) else str(getattr(given, "name", given))
    return text.lower() or None


def _json(name: str, text: str, kind: type) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, kind):
        raise InvalidError(f"{name} is neither a {kind.__name__} nor one in JSON: {text[:80]!r}")
    return value
