"""Goal: what the fake dashboard is trusted for holds of a real Ray. Method: run the client's own tests on one."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ray_home import RayHome

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.timeout(900)
def test_the_client_finds_a_real_ray_as_it_expects(ray_home: RayHome) -> None:
    done = subprocess.run(
        # Of the whole workspace, as `make test` has built it: for one package alone cargo would build other variants.
        ["cargo", "test", "--locked", "--workspace", "--test", "real", "--", "--ignored"],
        cwd=REPOSITORY,
        env=os.environ | {"AIRFREIGHT_TEST_RAY": ray_home.address},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 passed" in done.stdout
