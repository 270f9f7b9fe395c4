"""
The build backend: maturin, with a second extension module and the ``airfreight`` binary in the same wheel.

Maturin builds one crate per wheel, here ``airfreight._store``. It also packs a data directory, whose ``scripts`` go
next to the interpreter and whose ``platlib`` goes into site-packages; so the binary and ``airfreight._remote`` are
built first and put there. All come from the same workspace and lock file, which keeps them at one version, and ``pip
install`` from a checkout or an sdist gives the whole.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
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
TARGET = ROOT / "target"
DATA = TARGET / "wheel-data"
MODULE = Path("airfreight", "_remote.abi3.so")

#: A profile of Cargo's for the whole wheel in place of those for release; `dev` is unoptimised and checks itself.
PROFILE = os.environ.get("WHEEL_PROFILE")
_BUILD = ("cargo", "build", "--profile", PROFILE or "release", "--locked")
_PACKAGES = ("--package", "airfreight-cli", "--package", "airfreight-remote")
if PROFILE:
    os.environ["MATURIN_PEP517_ARGS"] = f"--profile {PROFILE}"


def build_wheel(
    wheel_directory: str, config_settings: dict[str, Any] | None = None, metadata_directory: str | None = None
) -> str:
    _build(DATA / "platlib" / MODULE)
    return str(maturin.build_wheel(wheel_directory, config_settings, metadata_directory))


def build_editable(
    wheel_directory: str, config_settings: dict[str, Any] | None = None, metadata_directory: str | None = None
) -> str:
    # Beside the sources, where maturin puts its own module, too; Git ignores both.
    _build(ROOT / "python" / MODULE)
    return str(maturin.build_editable(wheel_directory, config_settings, metadata_directory))


def build_sdist(sdist_directory: str, config_settings: dict[str, Any] | None = None) -> str:
    # Maturin wants the data directory to exist, even where nothing is packed from it.
    DATA.mkdir(parents=True, exist_ok=True)
    return str(maturin.build_sdist(sdist_directory, config_settings))


def prepare_metadata_for_build_wheel(metadata_directory: str, config_settings: dict[str, Any] | None = None) -> str:
    DATA.mkdir(parents=True, exist_ok=True)
    return str(maturin.prepare_metadata_for_build_wheel(metadata_directory, config_settings))


prepare_metadata_for_build_editable = prepare_metadata_for_build_wheel


def _build(module: Path) -> None:
    shutil.rmtree(DATA, ignore_errors=True)
    subprocess.run(
        [*_BUILD, *_PACKAGES, "--target-dir", TARGET],
        cwd=ROOT,
        # As maturin builds the other one: for any Python, so without libpython.
        env={**os.environ, "PYO3_BUILD_EXTENSION_MODULE": "1", "PYO3_PYTHON": sys.executable},
        check=True,
    )
    built = TARGET / {None: "release", "dev": "debug"}.get(PROFILE, str(PROFILE))
    _place(built / "airfreight", DATA / "scripts" / "airfreight")
    library = "lib_remote.dylib" if sys.platform == "darwin" else "lib_remote.so"
    _place(built / library, module)


def _place(built: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    # Whoever has the old one mapped keeps it.
    target.unlink(missing_ok=True)
    shutil.copy2(built, target)
