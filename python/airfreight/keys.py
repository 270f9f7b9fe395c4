"""The secret keys that sign references: from the configuration, else from a file made once in AIRFLOW_HOME."""

from __future__ import annotations

import os
import secrets
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING

from airfreight.errors import DeniedError, InvalidError

if TYPE_CHECKING:
    from airfreight.settings import Settings

_KEY_BYTES = 32
_IN_MEMORY = ("tmpfs", "ramfs")


def load_keys(settings: Settings) -> tuple[bytes, ...]:
    """
    The keys of this host; the first signs, all verify.

    :raises DeniedError: the key file belongs to somebody else or others can read it.
    :raises InvalidError: there is no safe place for a key file.
    """
    return settings.secret_key or (key_from_file(default_path()),)


def default_path() -> Path:
    """``$AIRFLOW_HOME/airfreight.key``."""
    return Path(os.path.expandvars(os.environ.get("AIRFLOW_HOME", "~/airflow"))).expanduser() / "airfreight.key"


def key_from_file(path: Path) -> bytes:
    """The key in a file, which is made when it isn't there; of several processes that make it at once, one wins."""
    try:
        return _read(path)
    except FileNotFoundError:
        _make(path)
        return _read(path)


def _read(path: Path) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DeniedError(
            f"cannot read the secret key in {path}: {error.strerror}",
            "make it readable for the Unix user that runs the tasks alone, or set [airfreight] secret_key",
        ) from error
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise DeniedError(f"the secret key {path} is not a regular file", "remove it; a new one is made")
        if status.st_uid != os.geteuid():
            raise DeniedError(
                f"the secret key {path} belongs to user {status.st_uid}, but this task runs as {os.geteuid()}",
                f"chown {os.geteuid()} {path}, or set [airfreight] secret_key",
            )
        if status.st_mode & 0o077:
            raise DeniedError(
                f"the secret key {path} is open to other users (mode {stat.S_IMODE(status.st_mode):04o})",
                f"chmod 600 {path}; if somebody else may have read it, remove it instead and clear what is running",
            )
        text = file.read(4096).strip()
    if len(text) != 2 * _KEY_BYTES:
        raise InvalidError(
            f"the secret key {path} is damaged: it has {len(text)} characters, not {2 * _KEY_BYTES}",
            "restore it, or remove it so that a new one is made (values in flight are then refused)",
        )
    return text


def _make(path: Path) -> None:
    _refuse_memory(path.parent)
    # Linked into place whole, so that nobody ever reads half a key.
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise DeniedError(
            f"cannot make a secret key in {path.parent}: {error.strerror}",
            "let the Unix user that runs the tasks write there, or set [airfreight] secret_key",
        ) from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(secrets.token_hex(_KEY_BYTES).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            pass
        except OSError:
            _copy_exclusively(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def _copy_exclusively(draft: Path, path: Path) -> None:
    """For file systems without hard links: whoever creates the name writes it, the others wait until it is whole."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        deadline = time.monotonic() + 10
        while path.stat().st_size <= 2 * _KEY_BYTES and time.monotonic() < deadline:
            time.sleep(0.01)
    else:
        with os.fdopen(descriptor, "wb") as file:
            file.write(draft.read_bytes())


def _refuse_memory(directory: Path) -> None:
    if filesystem_type(directory) in _IN_MEMORY:
        raise InvalidError(
            f"there is no secret key, and {directory} is in memory, where a new one would be lost at the next start",
            "set [airfreight] secret_key (or _CMD, _SECRET), or put AIRFLOW_HOME on a disk",
        )


def filesystem_type(directory: Path) -> str | None:
    """The type of the file system that holds a directory; ``None`` where the kernel does not tell."""
    try:
        device = directory.stat().st_dev
        wanted = f"{os.major(device)}:{os.minor(device)}"
        with Path("/proc/self/mountinfo").open(encoding="utf-8") as mounts:
            for line in mounts:
                fields, _, rest = line.partition(" - ")
                if fields.split()[2] == wanted:
                    return rest.split()[0]
    except (OSError, IndexError):
        return None
    return None
