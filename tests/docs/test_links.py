"""Goal: no link leads nowhere. Method: look for each relative link's file, and for its heading."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from docs.pages import REPOSITORY, anchors, links, pages

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_relative_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        if "://" in link or link.startswith("mailto:"):
            continue
        target, _, anchor = link.partition("#")
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), f"{link}: there is no {path}"
        assert REPOSITORY in path.parents or path == REPOSITORY, f"{link} leaves the repository"
        if anchor:
            assert anchor in anchors(path), f"{link}: {path.name} has no such heading"


def test_every_page_is_in_the_index() -> None:
    index = REPOSITORY / "docs" / "index.md"
    linked = {(index.parent / link.partition("#")[0]).resolve() for link in links(index) if "://" not in link}
    for page in pages():
        if page != index and page.parent != REPOSITORY:
            assert page in linked, f"docs/index.md does not link {page.relative_to(REPOSITORY)}"
