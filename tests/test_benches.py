"""
Goal: the benchmark still runs. Method: all of it on small values and one round, with the peers that live in the
environment of the tests; what it measures means nothing here, that it measured everything does.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PEERS = ("airfreight", "airfreight_empty_pool", "airfreight_store", "airfreight_xcom", "pickle_file", "memcpy_warm")
CASES = ("dict_1kb", "array_1mb", "frame_dates_1mb", "frame_objects_1mb")


# A minute of processor time: on a busy machine, several of the other kind.
@pytest.mark.timeout(900)
def test_the_benchmark_measures_every_value_and_writes_its_results(tmp_path: Path) -> None:
    chosen = [argument for peer in PEERS for argument in ("--peer", peer)]
    chosen += [argument for case in CASES for argument in ("--case", case)]

    ran = subprocess.run(
        [sys.executable, "-m", "benches", "--quick", "--out", str(tmp_path), *chosen],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert ran.returncode == 0, ran.stderr
    measured = json.loads((tmp_path / "results.json").read_text())
    assert {name: peer["missing"] for name, peer in measured["peers"].items()} == dict.fromkeys(PEERS)
    for name, case in measured["cases"].items():
        for peer, series in case["new"].items():
            assert not series["error"], f"{peer}, {name}: {series['error']}"
            assert series["changed"] is None, f"{peer}, {name}: {series['changed']}"
            assert series["times"]["put"]
        assert case["warm"]["airfreight"]["times"]["get"]
        assert case["interpreter"]["airfreight"]["times"]["get"]
        assert case["memory"]["airfreight"]["store_bytes"] is not None
    assert list(measured["cases"]) == list(CASES)
    assert measured["hot_loop"]["airfreight_store"]["times"]["put"]
    assert measured["imports"]["airfreight.xcom"]["median"] > 0
    assert "## Figures to reach" in (tmp_path / "results.md").read_text()
    assert (tmp_path / "results.png").read_bytes().startswith(b"\x89PNG")


def test_a_peer_that_is_not_there_is_reported_with_the_reason(tmp_path: Path) -> None:
    program = (
        "from benches import peers; from benches.__main__ import main; "
        "peers.load('vineyard').venv = '.venvs/none'; import sys; sys.exit(main(sys.argv[1:]))"
    )
    arguments = ["--quick", "--out", str(tmp_path), "--case", "dict_1kb", "--peer", "vineyard", "--peer", "pickle_file"]

    ran = subprocess.run(
        [sys.executable, "-c", program, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert ran.returncode == 0, ran.stderr
    assert "| vineyard 0.24.2 | missing |" in ran.stdout
    assert ".venvs/none is not there" in ran.stdout
