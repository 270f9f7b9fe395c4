"""The key file: made once by whoever comes first, and trusted only while nobody else can read it."""

from __future__ import annotations

import multiprocessing
import os
import stat
from typing import TYPE_CHECKING, Any

import pytest

from airfreight.errors import DeniedError, InvalidError
from airfreight.keys import default_path, filesystem_type, key_from_file, load_keys

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from airfreight.process import Process


def test_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "airfreight.key"
    key = key_from_file(path)
    assert len(key) == 64
    assert key_from_file(path) == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def _make(path: Path, barrier: Any, keys: Any) -> None:
    barrier.wait()
    keys.put(key_from_file(path))


def test_processes_that_come_at_once_agree(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    for attempt in range(20):
        path = tmp_path / f"{attempt}.key"
        barrier, keys = context.Barrier(6), context.Queue()
        makers = [context.Process(target=_make, args=(path, barrier, keys)) for _ in range(6)]
        for maker in makers:
            maker.start()
        found = {keys.get(timeout=60) for _ in makers}
        for maker in makers:
            maker.join()
        assert len(found) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(f"{attempt}.key" for attempt in range(20))


@pytest.mark.parametrize("fails", [True, False])
def test_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError(1, "no hard links here")

    if fails:
        monkeypatch.setattr(os, "link", refuse)
    key = key_from_file(tmp_path / "key")
    assert key_from_file(tmp_path / "key") == key


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_open_to_others_is_refused_with_the_mend(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "key"
    key_from_file(path)
    path.chmod(mode)
    with pytest.raises(DeniedError, match=f"{mode:04o}") as caught:
        key_from_file(path)
    assert f"chmod 600 {path}" in (caught.value.hint or "")


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    key_from_file(tmp_path / "real")
    (tmp_path / "key").symlink_to(tmp_path / "real")
    with pytest.raises(DeniedError):
        key_from_file(tmp_path / "key")


def test_damaged_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.touch(mode=0o600)
    with pytest.raises(InvalidError, match="damaged"):
        key_from_file(path)


def test_never_in_memory(memory: Path) -> None:
    if filesystem_type(memory) != "tmpfs":
        pytest.skip("no tmpfs here")
    with pytest.raises(InvalidError, match="in memory") as caught:
        key_from_file(memory / "key")
    assert "secret_key" in (caught.value.hint or "")
    assert list(memory.iterdir()) == []


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DeniedError, match="nowhere"):
        key_from_file(tmp_path / "nowhere" / "key")


def test_the_configuration_comes_first(configure: Callable[..., Process], tmp_path: Path) -> None:
    assert default_path() == tmp_path / "airfreight.key"
    process = configure(secret_key="the new configured key,the old configured key")
    assert load_keys(process.settings) == (b"the new configured key", b"the old configured key")
    assert not default_path().exists()
    assert load_keys(configure(secret_key="").settings) == (key_from_file(default_path()),)
