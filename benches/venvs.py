"""The environments of the peers that can't share Airfreight's: made once, with the same numpy, pandas and pyarrow."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from typing import TYPE_CHECKING

from benches.tasks import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable

    from benches.peers.base import Peer


def install(peer: type[Peer], say: Callable[[str], None]) -> None:
    """
    Makes the environment of a peer unless it is there.

    :raises RuntimeError: it can't be made; uv's last line says why.
    """
    if not peer.requires:
        return
    folder = ROOT / peer.venv
    requires = [_as_here(requirement) for requirement in peer.requires]
    # Written last, so an install that was cut off is done again, and one of other versions too.
    stamp = folder / "benches.txt"
    if stamp.exists() and stamp.read_text().split("\n") == requires:
        return
    say(f"{peer.venv}: {', '.join(requires)}")
    version = peer.python or f"{sys.version_info.major}.{sys.version_info.minor}"
    _uv("venv", "--quiet", "--clear", "--python", version, str(folder))
    _uv("pip", "install", "--quiet", "--compile-bytecode", "--python", str(folder / "bin" / "python"), *requires)
    stamp.write_text("\n".join(requires))


def _as_here(requirement: str) -> str:
    name, star, _ = requirement.partition("==*")
    return f"{name}=={importlib.metadata.version(name)}" if star else requirement


def _uv(*arguments: str) -> None:
    result = subprocess.run([sys.executable, "-m", "uv", *arguments], capture_output=True, text=True, check=False)
    if result.returncode:
        lines = [line for line in result.stderr.splitlines() if line.strip()]
        raise RuntimeError(f"uv {arguments[0]} failed: {' '.join(lines)[-300:]}")
