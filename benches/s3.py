"""
The S3 server of benchmarks: ``benches/s3-server``, which is built when it is first needed.

Tests have Moto's, one Python process that would itself be what is measured. Of the servers on crates.io, ``s3s-fs`` of
the same authors keeps parts in files, reads all of them again to complete an upload, and neither compares the checksums
of parts nor tells an object's, for which clients that verify would read it back; this one takes S3's protocol from the
crate ``s3s``, keeps all in memory, and compares and tells what Amazon's does.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT / "tests") not in sys.path:
    sys.path.insert(0, str(ROOT / "tests"))

from bucket_home import S3Server  # noqa: E402 - it lives with the tests

if TYPE_CHECKING:
    from collections.abc import Callable

SOURCES = Path(__file__).with_name("s3-server")
#: Beside what the workspace's own programs are built into, and ignored as that is.
TARGET = ROOT / "target" / "s3-server"


def server(say: Callable[[str], None], bucket: str) -> S3Server:
    """
    A server with one bucket, which is empty.

    :raises RuntimeError: Cargo can't build it; its last lines say why.
    """
    say("benches/s3-server: building")
    command = ["cargo", "build", "--release", "--locked", "--quiet", "--target-dir", str(TARGET)]
    ran = subprocess.run(command, cwd=SOURCES, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise RuntimeError(f"cargo build: {ran.stderr[-1000:]}")
    # The key and its secret are those of its `environment`.
    return S3Server(str(TARGET / "release" / "s3-server"), "test", "test-secret", bucket)
