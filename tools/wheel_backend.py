"""
The build backend: maturin, with the ``airfreight`` binary in the same wheel.

Maturin builds one crate per wheel, here the extension module. It also packs a data directory, whose ``scripts`` go next
to the interpreter; so the binary is built first and put there. It comes from the same workspace and lock file, which
keeps both at one version, and ``pip install`` from a checkout or an sdist gives the whole.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import maturin
from maturin import (
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    get_requires_for_build_wheel,
)

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = ROOT / "target" / "wheel-data" / "scripts"


def build_wheel(
    wheel_directory: str, config_settings: dict[str, Any] | None = None, metadata_directory: str | None = None
) -> str:
    return _with_binary(maturin.build_wheel, wheel_directory, config_settings, metadata_directory)


def build_editable(
    wheel_directory: str, config_settings: dict[str, Any] | None = None, metadata_directory: str | None = None
) -> str:
    return _with_binary(maturin.build_editable, wheel_directory, config_settings, metadata_directory)


def build_sdist(sdist_directory: str, config_settings: dict[str, Any] | None = None) -> str:
    # Maturin wants the data directory to exist, even where nothing is packed from it.
    SCRIPTS.mkdir(parents=True, exist_ok=True)
    return str(maturin.build_sdist(sdist_directory, config_settings))


def prepare_metadata_for_build_wheel(metadata_directory: str, config_settings: dict[str, Any] | None = None) -> str:
    SCRIPTS.mkdir(parents=True, exist_ok=True)
    return str(maturin.prepare_metadata_for_build_wheel(metadata_directory, config_settings))


prepare_metadata_for_build_editable = prepare_metadata_for_build_wheel


def _with_binary(build: Callable[..., str], *arguments: Any) -> str:
    subprocess.run(
        ["cargo", "build", "--release", "--locked", "--package", "airfreight-cli", "--target-dir", ROOT / "target"],
        cwd=ROOT,
        check=True,
    )
    SCRIPTS.mkdir(parents=True, exist_ok=True)
    shutil.copy2(ROOT / "target" / "release" / "airfreight", SCRIPTS)
    return build(*arguments)
