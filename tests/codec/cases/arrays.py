"""NumPy: every dtype, every memory order."""

from __future__ import annotations

import tempfile
from typing import Any

import numpy as np

_PLAIN = [
    "?",
    "i1",
    "u1",
    "<i2",
    ">i2",
    "<i4",
    ">u4",
    "<i8",
    ">i8",
    "u8",
    "<f2",
    "<f4",
    ">f4",
    "<f8",
    ">f8",
    "g",
    "<c8",
    ">c16",
]
_OTHER = ["S7", "<U5", ">U5", "V6", "<M8[D]", "<M8[ns]", ">M8[us]", "<m8[s]", "<m8[ns]", "M8[25s]"]
RECORD = np.dtype([("name", "U8"), ("value", ">f8"), ("when", "M8[s]"), ("pair", "i2", (2,))])


def of_dtype(dtype: Any, length: int = 2400) -> np.ndarray:
    """An array with different bytes everywhere, valid in its dtype."""
    dtype = np.dtype(dtype)
    if dtype.kind in "SUV" and not dtype.names:
        return (
            np.array([f"{i % 997}" for i in range(length)]).astype("S7" if dtype.kind == "V" else dtype).astype(dtype)
        )
    if dtype.kind == "b":
        return np.arange(length) % 3 == 0
    return (np.arange(length) % 120).astype("i8").astype(dtype)


def _records(length: int = 300) -> np.ndarray:
    array = np.zeros(length, RECORD)
    array["name"] = [f"n{i}" for i in range(length)]
    array["value"] = np.arange(length) / 7
    array["when"] = np.arange(length)
    return array


def _masked(hard: bool = False) -> Any:
    array = np.ma.masked_greater(np.arange(2000.0), 1500)
    if hard:
        array.harden_mask()
    array.fill_value = 99
    return array


def _objects() -> np.ndarray:
    array = np.empty(5, object)
    array[:] = [1, "a", None, [1, 2], {"x": 1.5}]
    return array


def _objects_cycle() -> np.ndarray:
    array = np.array([None] * 2000, object)
    array[3] = array
    array[1] = [array]
    return array


def _objects_shared() -> Any:
    inner = [1]
    array = np.empty(3000, object)
    array[:] = [inner for _ in range(3000)]
    return {"array": array, "inner": inner}


def _objects_block(order: str) -> np.ndarray:
    """As in a data frame: one row of strings, one of mixed things, one of numbers."""
    block = np.empty((3, 2000), object, order=order)  # type: ignore[call-overload]
    for i in range(2000):
        block[0, i], block[1, i], block[2, i] = f"s{i}", [i] if i % 7 == 0 else None, i / 3
    return block


def _readonly(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


def _memmap() -> Any:
    with tempfile.NamedTemporaryFile() as file:
        array = np.memmap(file, dtype="f8", shape=(40, 50), mode="w+")
        array[:] = np.arange(2000).reshape(40, 50)
        return array


def _shared_arrays() -> Any:
    array = np.arange(1000.0)
    return [array, array, {"again": array}]


def _text_objects(length: int, *others: Any) -> np.ndarray:
    array = np.array([f"text {i}" for i in range(length)], object)
    for i, other in enumerate(others):
        array[10 + i * 3 :: 50] = other
    return array


CASES: dict[str, Any] = {
    **{f"1d {code}": lambda code=code: of_dtype(code) for code in _PLAIN + _OTHER},
    **{
        f"fortran {code}": lambda code=code: np.asfortranarray(of_dtype(code).reshape(40, 60))
        for code in ("f8", "M8[ns]", "U5", "S7")
    },
    **{
        f"strided {code}": lambda code=code: of_dtype(code).reshape(40, 60)[::2, 3:50:4]
        for code in ("f8", ">i4", "M8[ns]", "U5", "?")
    },
    **{f"reversed {code}": lambda code=code: of_dtype(code)[::-1] for code in ("f4", "m8[s]", "S7")},
    **{
        f"transposed {code}": lambda code=code: of_dtype(code).reshape(6, 8, 50).transpose(2, 0, 1)
        for code in ("f8", "M8[D]")
    },
    **{f"0d {code}": lambda code=code: np.array(3).astype(code) for code in ("i8", "f4", "M8[s]", "U3", "O")},
    **{f"empty {code}": lambda code=code: np.empty((0, 3), code) for code in ("f8", "M8[ns]", "U3", "O", "T")},
    **{
        f"scalar {code}": lambda code=code: np.array([3]).astype(code)[0]
        for code in ("?", "i1", "u8", "f2", "f8", "c16", "M8[ns]", "m8[D]", "U3", "S3")
    },
    "nat": lambda: np.array(["NaT", "2020-01-01"] * 400, "M8[ns]"),
    "nan payloads": lambda: np.frombuffer(bytes(range(240, 256)) * 100, "f8").copy(),
    "zero width": lambda: np.zeros(3, "U0"),
    "void zero": lambda: np.zeros(2, "V0"),
    "records": _records,
    "records strided": lambda: _records()[::3],
    "record": lambda: _records()[4],
    "records with objects": lambda: np.array([(1, [1]), (2, None)], [("a", "i4"), ("b", "O")]),
    "records aligned": lambda: np.zeros(200, np.dtype([("a", "i1"), ("b", "f8")], align=True)),
    "recarray": lambda: _records().view(np.recarray),
    "recarray 2d": lambda: np.asfortranarray(_records().reshape(20, 15)).view(np.recarray),
    "masked": _masked,
    "masked hard": lambda: _masked(hard=True),
    "masked nothing": lambda: np.ma.array(np.arange(1000)),
    "masked dates": lambda: np.ma.array(np.arange(1000).astype("M8[s]"), mask=np.arange(1000) % 2),
    "masked 2d": lambda: np.ma.masked_equal(np.asfortranarray(np.arange(600).reshape(20, 30) % 7), 3),
    "masked strided": lambda: _masked()[::2],
    "masked records": lambda: np.ma.array(_records(), mask=False),
    "masked constant": lambda: np.ma.masked,
    "empty big-endian dates": lambda: np.array([], dtype=">M8[Y]"),
    "matrix": lambda: np.matrix(np.arange(400.0).reshape(20, 20)),
    "memmap": _memmap,
    "chararray": lambda: np.char.array(["abc", "de"] * 300),
    "objects": _objects,
    "objects 2d": lambda: np.array([[1, "a"], [None, 2.5]], object),
    "objects fortran": lambda: np.asfortranarray(np.array([[1, "a"], [None, 2.5]], object)),
    "objects cycle": _objects_cycle,
    "objects shared": _objects_shared,
    "objects block": lambda: _objects_block("C"),
    "objects block fortran": lambda: _objects_block("F"),
    "objects tall fortran": lambda: np.asfortranarray(_objects_block("C").T),
    "objects strided": lambda: _text_objects(9000)[::3],
    "texts": lambda: _text_objects(5000),
    "texts none": lambda: _text_objects(5000, None),
    "texts nan": lambda: _text_objects(5000, float("nan"), None, 1, True),
    "texts subclass": lambda: _text_objects(5000, np.str_("special")),
    "texts surrogate": lambda: _text_objects(5000, "half \ud83d", "nul \0"),
    "texts bytes": lambda: _text_objects(5000, b"bytes"),
    "texts mixed": lambda: _text_objects(5000, None, 2 + 3j),
    "texts of everywhere": lambda: np.array([f"{i} é☃🚀" * (i % 40) for i in range(9000)], object),
    "texts empty": lambda: np.array(["" for _ in range(600)] + [f"{i}" for i in range(9000)], object),
    "texts numbers": lambda: np.array([*(f"t{i}" for i in range(9000)), *(i / 7 for i in range(900))], object),
    "texts fortran": lambda: np.asfortranarray(np.stack([_text_objects(2000, None), _text_objects(2000)])),
    "texts block": lambda: np.stack([_text_objects(2000, None), _text_objects(2000, 1.5)]),
    "texts block strided": lambda: np.stack([_text_objects(4000), _text_objects(4000)])[:, ::2],
    "texts repeated": lambda: np.array(["few", "texts", "often"] * 3000, object),
    "texts 3d": lambda: _text_objects(6000).reshape(2, 3, 1000),
    "strings": lambda: np.array(["a", "é☃" * 40, ""] * 500, np.dtypes.StringDType()),
    "strings strided": lambda: np.array([f"x{i}" for i in range(5000)], np.dtypes.StringDType()).reshape(50, 100)[
        ::2, ::3
    ],
    "strings na": lambda: np.array(["a", None] * 900, np.dtypes.StringDType(na_object=None)),
    "strings nan": lambda: np.array(["a", np.nan] * 900, np.dtypes.StringDType(na_object=np.nan)),
    "readonly": lambda: _readonly(np.arange(1000.0)),
    "readonly dates": lambda: _readonly(np.arange(1000).astype("M8[s]")),
    "readonly small": lambda: _readonly(np.arange(3)),
    "broadcast": lambda: np.broadcast_to(np.arange(100.0), (30, 100)),
    "dtype": lambda: RECORD,
    "dtype string": lambda: np.dtypes.StringDType(na_object=None),
    "dtype class": lambda: np.float32,
    "ufunc": lambda: np.add,
    "shared": _shared_arrays,
    "many": lambda: [np.arange(i) for i in range(200)],
    "view of the same": lambda: (lambda a: {"all": a, "part": a[10:500]})(np.arange(5000)),
    "64 MB": lambda: np.arange(8_000_000.0),
}
