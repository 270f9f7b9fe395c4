"""Goal: the map of the code shows the code. Method: compare the modules that it names with those that exist."""

from __future__ import annotations

import re

import pytest

from docs.pages import REPOSITORY

PAGE = REPOSITORY / "ARCHITECTURE.md"
CRATES = ("airfreight-core", "airfreight-store")


def _section(title: str) -> str:
    text = PAGE.read_text().partition(f"### {title}\n")[2]
    return re.split(r"^##", text, maxsplit=1, flags=re.MULTILINE)[0]


def _named(title: str) -> set[str]:
    """The modules in the first column of a section's table."""
    cells = re.findall(r"^\| (`.+?) \|", _section(title), re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`([\w/.]+)`", cell)}


@pytest.mark.parametrize("crate", CRATES)
def test_every_rust_module_has_its_line(crate: str) -> None:
    modules = {path.stem for path in (REPOSITORY / "crates" / crate / "src").glob("*.rs")} - {"lib"}
    assert _named(crate) == modules


def test_every_python_module_has_its_line() -> None:
    package = REPOSITORY / "python" / "airfreight"
    modules = {path.stem for path in package.glob("*.py")} - {"__init__"}
    named = {name.removesuffix(".pyi") for name in _named("python/airfreight")}
    assert {name for name in named if "/" not in name} >= modules
    for name in named - modules:
        places = [package / f"{name}{end}" for end in (".py", ".pyi", "", "/__init__.py")]
        places += [package / "codec" / f"{name}.py"]
        assert any(place.exists() for place in places), f"there is no {name}"


def test_every_crate_has_its_line() -> None:
    crates = {path.parent.name for path in (REPOSITORY / "crates").glob("*/Cargo.toml")}
    assert crates == set(re.findall(r"^\| `(airfreight-\w+)` \|", PAGE.read_text(), re.MULTILINE))


def test_files_that_it_names_exist() -> None:
    for path in re.findall(r"`([\w./-]+/[\w.-]+\.(?:rs|py|md|pyi))`", PAGE.read_text()):
        bases = [REPOSITORY, *(REPOSITORY / "crates").iterdir(), REPOSITORY / "python" / "airfreight"]
        assert any((base / path).exists() for base in bases), f"there is no {path}"


def test_make_targets_that_it_names_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`make ([a-z-]+)`", PAGE.read_text())) <= targets
