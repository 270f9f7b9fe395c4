"""What the wheel installs besides the package: the binary, next to the interpreter, and what Airflow looks for."""

from __future__ import annotations

import json
import os
import subprocess
import sysconfig
import tomllib
from importlib.metadata import distribution
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
BINARY = Path(sysconfig.get_path("scripts")) / "airfreight"


def run(*arguments: str | Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [BINARY, *arguments], env={**os.environ, **(env or {})}, capture_output=True, text=True, check=False
    )


def test_the_binary_is_native_and_of_the_package_s_version() -> None:
    assert BINARY.read_bytes()[:4] == b"\x7fELF"
    assert run("--version").stdout.strip() == f"airfreight {distribution('airfreight').version}"


@pytest.mark.parametrize("name", ["_store", "_remote"])
def test_an_extension_module_is_for_any_python(name: str) -> None:
    module = distribution("airfreight").locate_file(f"airfreight/{name}.abi3.so")
    code = Path(str(module)).read_bytes()
    assert code[:4] == b"\x7fELF"
    assert f"PyInit_{name}".encode() in code
    # The interpreter that loads it has Python's functions; many have no shared library of them.
    assert b"libpython" not in code


def test_the_source_distribution_holds_every_crate() -> None:
    crates = {path.parent.name: tomllib.loads(path.read_text()) for path in REPOSITORY.glob("crates/*/Cargo.toml")}
    included = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["maturin"]["include"]
    named = {each["path"].split("/")[1] for each in included if each["path"].startswith("crates/")}
    # Maturin packs the crate that it builds, and what that depends on.
    brought = {"airfreight-py"}
    while more := {name for each in brought for name in crates[each]["dependencies"] if name in crates} - brought:
        brought |= more
    assert named | brought == set(crates)


def test_airflow_finds_the_provider_and_the_plugin() -> None:
    points = {(point.group, point.value) for point in distribution("airfreight").entry_points}
    assert ("apache_airflow_provider", "airfreight.provider_info:get_provider_info") in points
    assert ("airflow.plugins", "airfreight.plugin:AirfreightPlugin") in points


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {
        "AIRFLOW_HOME": str(tmp_path / "home"),
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__XCOM_BACKEND": "airfreight.xcom.AirfreightXCom",
        "AIRFLOW__AIRFREIGHT__SECRET_KEY": "a secret that doctor must not show",
        "AIRFLOW__AIRFREIGHT__STORE_PATH": str(tmp_path / "store"),
        "AIRFLOW__AIRFREIGHT__SPILL_PATH": str(tmp_path / "spill"),
    }


def doctor(environment: dict[str, str]) -> tuple[int, dict[str, dict[str, str]]]:
    done = run("doctor", "--json", env=environment)
    assert done.stdout, done.stderr
    assert "must not show" not in done.stdout + done.stderr
    return done.returncode, {check["name"]: check for check in json.loads(done.stdout)["checks"]}


def test_doctor_is_content_with_a_good_set_up(environment: dict[str, str]) -> None:
    code, checks = doctor(environment)
    assert code == 0, checks
    for name in ("airfreight", "airflow", "xcom backend", "settings", "executor", "secret key", "store"):
        assert checks[name]["level"] == "ok", checks


def test_doctor_says_what_is_wrong_and_how_to_mend_it(environment: dict[str, str]) -> None:
    code, checks = doctor(
        environment
        | {
            "AIRFLOW__CORE__XCOM_BACKEND": "airflow.sdk.bases.xcom.BaseXCom",
            "AIRFLOW__AIRFREIGHT__TTL_HOURS": "a week",
        }
    )
    assert code == 1
    assert checks["xcom backend"]["level"] == "fail"
    assert "airfreight.xcom.AirfreightXCom" in checks["xcom backend"]["mend"]
    assert "ttl_hours" in checks["settings"]["found"]


def test_doctor_tells_a_key_that_others_can_read(environment: dict[str, str], tmp_path: Path) -> None:
    del environment["AIRFLOW__AIRFREIGHT__SECRET_KEY"]
    key = tmp_path / "home" / "airfreight.key"
    key.parent.mkdir()
    key.write_text("00" * 32)
    key.chmod(0o644)
    code, checks = doctor(environment)
    assert code == 1
    assert checks["secret key"]["level"] == "fail"
    assert "chmod 600" in checks["secret key"]["mend"]
