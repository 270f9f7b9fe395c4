"""What is shown in place of long values, and that the values themselves stay what they are."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import Any

import jinja2
import numpy as np
import pytest
from jinja2.nativetypes import NativeEnvironment

from airfreight import brevity
from airfreight.caller import Purpose, purpose
from airfreight.expanding import StoredSequence


@dataclass
class Holder:
    held: Any


@pytest.mark.parametrize(
    "value", [None, 5, "text", list(range(900)), {"a": [1] * 100}, np.zeros(10**6), Holder([1] * 100), object()]
)
def test_what_prints_shortly_is_left(value: Any) -> None:
    assert not brevity.is_long(value)


@pytest.mark.parametrize(
    "value",
    [
        "x" * 20_000,
        b"x" * 20_000,
        list(range(2_000)),
        [["x" * 200] * 100],
        {n: n for n in range(2_000)},
        Holder("x" * 20_000),
    ],
)
def test_what_prints_at_length_is_not(value: Any) -> None:
    assert brevity.is_long(value)
    assert len(brevity.describe(value)) < 3_000


def test_finding_out_is_bounded() -> None:
    looked_at = 0

    class Item:
        @property
        def __dict__(self) -> Any:
            nonlocal looked_at
            looked_at += 1
            return {}

    brevity.is_long([[Item() for _ in range(900)] for _ in range(900)])
    assert looked_at <= 1_000


@pytest.mark.parametrize("value", [list(range(5_000)), {str(n): n for n in range(5_000)}])
def test_a_template_prints_it_in_brief_and_works_with_all_of_it(value: Any) -> None:
    brief = brevity.for_template(value, "2.0 MiB")
    assert brief == value
    assert isinstance(brief, type(value))
    render = jinja2.Environment(autoescape=False).from_string
    assert "5000 elements, 2.0 MiB" in render("{{ v }}").render(v=brief)
    assert render("{{ v | length }}").render(v=brief) == "5000"
    assert json.loads(render("{{ v | tojson }}").render(v=brief)) == value


def test_text_stays_text() -> None:
    text = "x" * 5_000_000
    assert brevity.for_template(text, "4.8 MiB") is text


def test_a_template_is_told_from_native_rendering_and_from_other_code() -> None:
    assert purpose() is None
    source = "{{ ask() }}"
    assert jinja2.Environment(autoescape=False).from_string(source).render(ask=purpose) == str(Purpose.PRINT)
    assert NativeEnvironment().from_string(source).render(ask=purpose) is Purpose.RENDER


def test_a_python_task_logs_a_long_value_in_brief(caplog: pytest.LogCaptureFixture) -> None:
    log = brevity.BriefLog(logging.getLogger("a task"))
    with caplog.at_level(logging.INFO):
        log.info("Done. Returned value was: %s", list(range(100_000)))
        log.info("Done. Returned value was: %s", 5)
        log.info("Something else: %s", list(range(2_000)))
    messages = [record.getMessage() for record in caplog.records]
    assert "99999" not in messages[0]
    assert "in brief" in messages[0]
    assert messages[1] == "Done. Returned value was: 5"
    assert messages[2].endswith("1999]")
    assert {record.funcName for record in caplog.records} == {"test_a_python_task_logs_a_long_value_in_brief"}


def test_a_stored_sequence_reads_what_is_asked_for() -> None:
    reads: list[int] = []

    def read(index: int) -> int:
        reads.append(index)
        return 10 * index

    values = StoredSequence(5, read)
    assert (len(values), values[1], values[-1], values[1:3]) == (5, 10, 40, [10, 20])
    assert reads == [1, 4, 1, 2]
    assert repr(values) == "<5 elements in the store>"
    with pytest.raises(IndexError):
        values[5]
    assert not isinstance(values, list)
    assert not hasattr(values, "serialize")
