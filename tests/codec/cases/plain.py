"""Python's own types."""

from __future__ import annotations

import array
import datetime as dt
import decimal
import fractions
import ipaddress
import math
import operator
import pathlib
import random
import re
import types
import uuid
import zoneinfo
from functools import partial
from typing import Any

BERLIN = "Europe/Berlin"


def _exception_with_cause() -> Exception:
    error = ValueError("outer", 3)
    error.add_note("a note")
    return error


def _os_error() -> OSError:
    return FileNotFoundError(2, "No such file", "/nowhere")


def _unicode_error() -> UnicodeDecodeError:
    return UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")


_SMALL: dict[str, Any] = {
    "none": None,
    "true": True,
    "false": False,
    "zero": 0,
    "negative": -1,
    "int_2_31": 2**31,
    "int_2_63": 2**63,
    "int_2_64": 2**64,
    "int_huge": 7**4000,
    "float": 0.1,
    "negative_zero": -0.0,
    "nan": math.nan,
    "infinity": math.inf,
    "tiny": 5e-324,
    "large_float": 1e308,
    "complex": 1 - 2j,
    "complex_nan": complex(math.nan, -0.0),
    "empty_str": "",
    "str": "naïve ☃ 𝄞",
    "surrogate": "half \ud83d",
    "nul": "a\0b",
    "reference_lookalike": '{"airfreight": 1, "id": "x"}',
    "dict_lookalike": {"airfreight": 1, "id": "x", "hmac": "y"},
    "dict_classname": {"__classname__": "x", "__version__": 1, "__data__": 3},
    "bytes": b"\x00\xff",
    "empty_bytes": b"",
    "bytearray": bytearray(b"abc"),
    "empty_bytearray": bytearray(),
    "ellipsis": ...,
    "not_implemented": NotImplemented,
    "range": range(3, 30, 4),
    "slice": slice(1, None, 2),
    "date": dt.date(2024, 2, 29),
    "time": dt.time(1, 2, 3, 4, fold=1),
    "datetime": dt.datetime(2024, 2, 29, 1, 2, 3, 456789),
    "datetime_utc": dt.datetime(2024, 1, 1, tzinfo=dt.UTC),
    "datetime_offset": dt.datetime(2024, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=5, minutes=30), "IST")),
    "datetime_zone": dt.datetime(2024, 10, 27, 2, 30, tzinfo=zoneinfo.ZoneInfo(BERLIN), fold=1),
    "datetime_min": dt.datetime.min,
    "timedelta": dt.timedelta(days=-1, microseconds=3),
    "zone": zoneinfo.ZoneInfo(BERLIN),
    "utc": dt.UTC,
    "decimal": decimal.Decimal("1.10"),
    "decimal_nan": decimal.Decimal("sNaN"),
    "decimal_context": decimal.Context(prec=7),
    "fraction": fractions.Fraction(3, 7),
    "uuid": uuid.UUID(int=7),
    "path": pathlib.Path("/a/b"),
    "pure_windows_path": pathlib.PureWindowsPath("C:/x"),
    "ip": ipaddress.ip_address("::1"),
    "network": ipaddress.ip_network("10.0.0.0/8"),
    "pattern": re.compile(r"a(b)*", re.IGNORECASE),
    "builtin_function": len,
    "builtin_type": int,
    "operator": operator.itemgetter(1, "a"),
    "method_of_builtin": str.upper,
    "partial": partial(round, ndigits=2),
    "namespace": types.SimpleNamespace(a=1, b=[2]),
    "mapping_proxy": types.MappingProxyType({"a": [1]}),
    "generic_alias": list[int],
    "union_type": int | None,
    "exception": ValueError("x", 1),
    "stop_iteration": StopIteration(4),
    "system_exit": SystemExit(3),
    "key_error": KeyError("k"),
    "exception_group": ExceptionGroup("several", [ValueError(1), TypeError("t")]),
    "exception_class": KeyError,
}

CASES = {name: (lambda value=value: value) for name, value in _SMALL.items()} | {
    "exception_note": _exception_with_cause,
    "os_error": _os_error,
    "unicode_error": _unicode_error,
    "long_str": lambda: "x" * 3_000_000,
    "long_str_wide": lambda: "é☃" * 700_000,
    "long_str_surrogate": lambda: "y" * 1_000_000 + "\udc80",
    "long_bytes": lambda: bytes(range(256)) * 10_000,
    "long_bytearray": lambda: bytearray(b"0123456789") * 100_000,
    "array_empty": lambda: array.array("d"),
    "array_double": lambda: array.array("d", range(1000)),
    "array_bytes": lambda: array.array("b", [-1, 2, 3]),
    "memoryview": lambda: memoryview(b"some bytes"),
    "memoryview_writable": lambda: memoryview(bytearray(2_000)),
    "memoryview_shaped": lambda: memoryview(array.array("i", range(600))).cast("B").cast("i", (20, 30)),
    "memoryview_strided": lambda: memoryview(bytearray(range(200)))[::3],
    "memoryview_empty": lambda: memoryview(b""),
    "random_state": lambda: random.Random(7).getstate(),
    "random": lambda: random.Random(7).getstate()[1][:5],
}
