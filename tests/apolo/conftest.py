"""One platform for each module of tests, with the connections to it."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from airfreight._remote import ApoloClient
from airfreight.operators.apolo import ApoloRunOperator
from apolo_home import Platform

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def shared_platform() -> Iterator[Platform]:
    with Platform.start() as platform:
        yield platform


@pytest.fixture
def platform(shared_platform: Platform, monkeypatch: pytest.MonkeyPatch) -> Platform:
    """The module's platform without faults, with the connections ``apolo_default`` and ``neuro_default`` to it."""
    shared_platform.reset()
    for name in ("APOLO", "NEURO"):
        monkeypatch.setenv(f"AIRFLOW_CONN_{name}_DEFAULT", shared_platform.connection(patience=10))
    return shared_platform


@pytest.fixture
def client(platform: Platform) -> ApoloClient:
    return ApoloClient(platform.token, api_url=platform.api_url, patience=10)


class Task:
    """One task instance over its attempts, with the XComs that it has pushed."""

    number = 0

    def __init__(self) -> None:
        Task.number += 1
        self.xcoms: dict[str, Any] = {}
        self.run_began = datetime.now(UTC)
        self.instance = SimpleNamespace(
            dag_id="flights",
            run_id=f"r{Task.number}",
            task_id="train",
            map_index=-1,
            try_number=1,
            max_tries=2,
            start_date=datetime.now(UTC),
            xcom_push=lambda key, value: self.xcoms.update({key: value}),
        )

    @property
    def context(self) -> Any:
        return {"ti": self.instance, "dag_run": SimpleNamespace(start_date=self.run_began)}

    def operator(self, kind: type[ApoloRunOperator] = ApoloRunOperator, **options: Any) -> ApoloRunOperator:
        options = {"task_id": "train", "job_image": "ubuntu", "job_resources_preset": "cpu-small", **options}
        if "job_resources" in options:
            del options["job_resources_preset"]
        return kind(**options)

    def run(self, kind: type[ApoloRunOperator] = ApoloRunOperator, **options: Any) -> Any:
        return self.operator(kind, **options).execute(self.context)

    def retry(self) -> None:
        self.instance.try_number += 1

    def clear(self) -> None:
        self.instance.try_number += 1
        self.instance.max_tries += 1


@pytest.fixture
def task() -> Task:
    return Task()
