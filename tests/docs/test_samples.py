"""Goal: what the pages show works. Method: run it, or hold it against the program that it is meant for."""

from __future__ import annotations

import ast
import configparser
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from docs.pages import REPOSITORY, Block, blocks, pages

if TYPE_CHECKING:
    from airflow_home import AirflowHome

PYTHON = blocks("python")
COMMANDS = [
    (f"{block}: {line}", line.partition("  #")[0].strip())
    for block in blocks("console")
    for line in block.text.replace("\\\n", " ").splitlines()
]


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_python_is_that_of_a_file_that_is_run(block: Block) -> None:
    assert block.source, f"{block} does not say which file it shows; DAGs of such files are run by the tests"
    text = (REPOSITORY / block.source).read_text()
    beginning = next(
        node
        for node in ast.parse(text).body
        if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
    )
    assert block.text == "".join(text.splitlines(keepends=True)[beginning.lineno - 1 :])


@pytest.mark.parametrize("block", blocks("json"), ids=str)
def test_json_is_json(block: Block) -> None:
    json.loads(block.text)


@pytest.mark.parametrize("block", blocks("yaml"), ids=str)
def test_yaml_is_yaml(block: Block) -> None:
    assert isinstance(yaml.safe_load(block.text), dict)


@pytest.mark.parametrize("block", blocks("sh"), ids=str)
def test_scripts_are_scripts(block: Block) -> None:
    done = subprocess.run(["sh", "-n"], input=block.text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("block", blocks("ini"), ids=str)
def test_configuration_is_understood(block: Block) -> None:
    from airfreight.settings import SETTINGS

    known = {setting.name: setting for setting in SETTINGS}
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(block.text)
    for name, value in parser["airfreight"].items() if "airfreight" in parser else ():
        known[name.removesuffix("_cmd").removesuffix("_secret")].read(value)
    if "core" in parser:
        assert parser["core"]["xcom_backend"] == "airfreight.xcom.AirfreightXCom"


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_settings_that_a_page_names_exist(page: Path) -> None:
    from airfreight.settings import SETTINGS

    # What `airflow airfreight` tells the binary beyond the settings.
    known = {setting.name for setting in SETTINGS} | {"deployment"}
    # What only agents take.
    known |= {"agent_write_token", "agent_keep_free", "agent_dag_limits", "agent_gc_every", "agent_api_token_file"}
    # What the runner's job is told.
    known |= {"runner_id", "runner_port", "runner_idle_seconds", "call"}
    text = page.read_text()
    named = re.findall(
        r"AIRFLOW__AIRFREIGHT__([A-Z][A-Z_]+)|AIRFREIGHT_([A-Z][A-Z_]+)\b|`\[airfreight\] ([a-z_]+)\b", text
    )
    for name in {next(filter(None, each)).lower() for each in named}:
        assert name in known or name.removesuffix("_cmd").removesuffix("_secret") in known, name


@pytest.mark.parametrize(("place", "command"), COMMANDS, ids=[place for place, _ in COMMANDS])
def test_commands_exist(place: str, command: str) -> None:
    """Only whether program, subcommand and flags exist: much of it would need a host of its own."""
    words = command.split()
    if words[:1] == ["make"]:
        targets = re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
        assert words[1] in targets, f"{place}: the Makefile has no {words[1]}"
    if words[:1] == ["airfreight"]:
        subcommands = [word for word in words[1:3] if re.fullmatch(r"[a-z]+", word)]
        binary = Path(sys.prefix) / "bin" / "airfreight"
        done = subprocess.run([binary, *subcommands, "--help"], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{place}: {done.stderr}"
        for flag in re.findall(r"--[a-z-]+", command.partition("|")[0].partition(" -- ")[0]):
            assert flag in done.stdout, f"{place}: {words[0]} {' '.join(subcommands)} has no {flag}"


def test_the_readme_s_dag_runs(airflow: AirflowHome) -> None:
    run_id = airflow.run("warmest")
    assert airflow.xcom("warmest", run_id, "find").startswith("2026-")
    row = airflow.xcom("warmest", run_id, "measure")
    assert (row["type"], row["preview"]["shape"]) == ("pandas.DataFrame", [5_000_000, 2])


def test_what_a_task_changes_in_place_stays_in_the_task(airflow: AirflowHome) -> None:
    run_id = airflow.run("in_place")
    assert airflow.xcom("in_place", run_id, "check") is True
