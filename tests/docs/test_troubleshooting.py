"""Goal: a user finds every message. Method: compare the page's headings with the messages in the sources."""

from __future__ import annotations

import re

import pytest

from docs.messages import messages, sources
from docs.pages import REPOSITORY, headings

PAGE = REPOSITORY / "docs" / "troubleshooting.md"
MESSAGES = messages()


def _patterns() -> list[str]:
    """The headings that are messages: those of the third level."""
    lines = re.findall(r"^### (.+)$", PAGE.read_text(), re.MULTILINE)
    assert set(lines) <= set(headings(PAGE))
    return [line.replace("`", "") for line in lines]


def _covers(pattern: str, message: str) -> bool:
    """Whether a heading stands for a message: it is equal, or ``…of words…`` and the message has the words."""
    is_part = re.fullmatch(r"…(\S.*\S) …", pattern)
    return is_part[1] in message if is_part else pattern == message


@pytest.mark.parametrize("message", sorted(MESSAGES))
def test_every_message_is_explained(message: str) -> None:
    covered = [pattern for pattern in _patterns() if _covers(pattern, message)]
    assert covered, f"{MESSAGES[message].relative_to(REPOSITORY)} has a message without a heading: {message}"


@pytest.mark.parametrize("pattern", _patterns())
def test_every_heading_is_a_message(pattern: str) -> None:
    assert any(_covers(pattern, message) for message in MESSAGES), f"no source has a message like: {pattern}"


def test_parts_of_messages_that_lists_explain_are_parts_of_messages() -> None:
    items = re.findall(r"^- ((?:`[^`]+`,? ?)+):", PAGE.read_text(), re.MULTILINE)
    assert items
    everything = "\n".join(path.read_text() for path in sources())
    for words in (words for item in items for part in re.findall(r"`([^`]+)`", item) for words in part.split("…")):
        assert words.strip() in everything, f"no source says: {words}"


def test_what_doctor_says_is_what_the_table_says() -> None:
    section = PAGE.read_text().partition("## What airfreight doctor says")[2]
    rows = re.findall(r"^\| `([\w ]+)` \| (.+?) \| .+ \|$", section, re.MULTILINE)
    doctor = "\n".join(
        re.sub(r"\\\n\s*", "", path.read_text()).replace("`", "") for path in sources() if "/doctor/" in str(path)
    )
    assert len(rows) > 10
    for name, said in rows:
        assert f'"{name}"' in doctor, f"doctor has no line called {name}"
        for words in filter(None, (part.strip() for part in said.split("…"))):
            assert words in doctor, f"doctor does not say: {words}"
