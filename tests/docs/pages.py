"""The documentation as the tests look at it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = Path(__file__).parents[2]

_FENCE = re.compile(
    r"(?:<!-- include: (?P<source>\S+) -->\n)?^(?P<fence>```+)(?P<language>\w*)\n(?P<text>.*?)^(?P=fence)$",
    re.MULTILINE | re.DOTALL,
)
_HEADING = re.compile(r"^(#{1,6}) (.+)$", re.MULTILINE)
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\((?P<target>[^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page; ``source`` is the file that it must be equal to, if it names one."""

    page: Path
    line: int
    language: str
    text: str
    source: str | None

    def __str__(self) -> str:
        return f"{self.page.relative_to(REPOSITORY)}:{self.line}"


def pages() -> list[Path]:
    """Every page of the repository, wherever it lies."""
    return sorted([*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md")])


def blocks(language: str) -> list[Block]:
    """Every fenced block of a language, in all pages."""
    return [block for page in pages() for block in _blocks(page) if block.language == language]


def headings(page: Path) -> list[str]:
    """The headings of a page, without those inside of blocks."""
    return [text for _, text in _HEADING.findall(_prose(page))]


def anchors(page: Path) -> set[str]:
    """What may stand behind ``#`` in a link to a page, as GitHub makes it of the headings."""
    found: set[str] = set()
    for heading in headings(page):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        anchor = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        number = 0
        while (unique := f"{anchor}-{number}" if number else anchor) in found:
            number += 1
        found.add(unique)
    return found


def links(page: Path) -> list[str]:
    """Where the links of a page lead."""
    return [match["target"] for match in _LINK.finditer(_prose(page))]


def _blocks(page: Path) -> Iterator[Block]:
    text = page.read_text()
    for match in _FENCE.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        yield Block(page, line, match["language"], match["text"], match["source"])


def _prose(page: Path) -> str:
    return _FENCE.sub("", page.read_text())
