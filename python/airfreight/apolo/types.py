"""
Light types for what a job asks for, under the names of the platform's SDK.

They take the field names of today's SDK and those of 2020's, and need neither of the two. Where one of them is
expected, the SDK's own object of that name is taken, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from airfreight.errors import InvalidError


class JobStatus(StrEnum):
    """Where a job stands, in the platform's words."""

    PENDING = "pending"
    SUSPENDED = "suspended"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"

    @classmethod
    def of(cls, word: Any) -> JobStatus:
        """The status of a word; a new one of the platform's is UNKNOWN."""
        word = str(getattr(word, "value", word))
        return cls(word) if word in cls._value2member_map_ else cls.UNKNOWN

    @property
    def is_pending(self) -> bool:
        """Whether it waits for its container, for the first time or again."""
        return self in (JobStatus.PENDING, JobStatus.SUSPENDED)

    @property
    def is_running(self) -> bool:
        return self is JobStatus.RUNNING

    @property
    def is_finished(self) -> bool:
        """Whether it stays as it is."""
        return self in (JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED)


#: Field by field: today's name, and the one of 2020.
_OLD_NAMES = {"nvidia_gpu": "gpu", "nvidia_gpu_model": "gpu_model"}

_MEBIBYTE = 1 << 20


@dataclass(frozen=True, kw_only=True, init=False)
class Resources:
    """
    What a job's container gets.

    :param memory_mb: the memory in MiB, as until 2022.
    :param cpu: cores.
    :param gpu: NVIDIA's GPUs, as until 2024.
    :param gpu_model: their model, likewise.
    :param shm: whether ``/dev/shm`` is as large as the memory allows.
    :param memory: the memory in bytes.
    """

    memory: int
    cpu: float
    nvidia_gpu: int | None
    nvidia_gpu_model: str | None
    amd_gpu: int | None
    amd_gpu_model: str | None
    intel_gpu: int | None
    intel_gpu_model: str | None
    shm: bool
    tpu_type: str | None
    tpu_software_version: str | None

    def __init__(
        self,
        memory_mb: float | None = None,
        cpu: float | None = None,
        gpu: int | None = None,
        gpu_model: str | None = None,
        shm: bool = True,
        tpu_type: str | None = None,
        tpu_software_version: str | None = None,
        *,
        memory: int | None = None,
        nvidia_gpu: int | None = None,
        nvidia_gpu_model: str | None = None,
        amd_gpu: int | None = None,
        amd_gpu_model: str | None = None,
        intel_gpu: int | None = None,
        intel_gpu_model: str | None = None,
    ) -> None:
        if (memory is None) == (memory_mb is None) or cpu is None:
            raise InvalidError(
                "Resources need cpu, and either memory in bytes or memory_mb",
                "for example Resources(memory_mb=2048, cpu=1)",
            )
        chosen = {
            "memory": int(memory if memory is not None else (memory_mb or 0) * _MEBIBYTE),
            "cpu": cpu,
            "nvidia_gpu": gpu if nvidia_gpu is None else nvidia_gpu,
            "nvidia_gpu_model": gpu_model if nvidia_gpu_model is None else nvidia_gpu_model,
            "amd_gpu": amd_gpu,
            "amd_gpu_model": amd_gpu_model,
            "intel_gpu": intel_gpu,
            "intel_gpu_model": intel_gpu_model,
            "shm": shm,
            "tpu_type": tpu_type,
            "tpu_software_version": tpu_software_version,
        }
        for name, value in chosen.items():
            object.__setattr__(self, name, value)

    @property
    def memory_mb(self) -> int:
        return self.memory // _MEBIBYTE

    @property
    def gpu(self) -> int | None:
        return self.nvidia_gpu

    @property
    def gpu_model(self) -> str | None:
        return self.nvidia_gpu_model


@dataclass(frozen=True)
class Volume:
    """
    A folder of the storage in a job's container.

    :param storage_uri: ``storage:…``, or its text in the SDK's own class of URLs.
    """

    storage_uri: Any
    container_path: str
    read_only: bool = False


@dataclass(frozen=True)
class DiskVolume:
    """A persistent disk in a job's container."""

    disk_uri: Any
    container_path: str
    read_only: bool = False


@dataclass(frozen=True)
class SecretFile:
    """A secret as a file in a job's container."""

    secret_uri: Any
    container_path: str


@dataclass(frozen=True)
class RemoteImage:
    """
    An image in a registry; a text such as ``ubuntu:24.04`` or ``image:mine:1`` says the same.

    :param registry: the registry's host.
    :param cluster_name: the cluster whose registry it is.
    :param owner: what ``project_name`` was called until 2022.
    """

    name: str
    tag: str | None = None
    owner: str | None = None
    registry: str | None = None
    cluster_name: str | None = None
    org_name: str | None = None
    project_name: str | None = None

    def as_docker_url(self, with_scheme: bool = False) -> str:
        """The image's name for a container runtime."""
        project = self.project_name or self.owner
        parts = [part for part in (self.registry, self.org_name, project, self.name) if part]
        tag = f":{self.tag}" if self.tag else ""
        return f"{'https://' if with_scheme and self.registry else ''}{'/'.join(parts)}{tag}"


class JobDescription:
    """
    A job as the platform describes it; each of its fields is an attribute, ``None`` where it has none.

    :param details: the platform's answer.
    """

    def __init__(self, details: dict[str, Any]) -> None:
        self._details = details

    @property
    def status(self) -> JobStatus:
        return JobStatus.of(self._details.get("status"))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        value = self._details.get(name)
        return JobDescription(value) if isinstance(value, dict) else value

    def __repr__(self) -> str:
        return f"<JobDescription {self._details.get('id')} {self._details.get('status')}>"
