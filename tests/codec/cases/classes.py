"""Classes of users: dataclasses, enums, slots, pydantic models, exceptions with signatures of their own."""

from __future__ import annotations

import enum
import functools
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import pydantic

T = TypeVar("T")


@dataclass
class Row:
    name: str
    values: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Frozen:
    a: int
    b: tuple[int, ...] = ()


@dataclass
class Holder(Generic[T]):
    held: T


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Right(enum.Flag):
    READ = 1
    WRITE = 2


class Word(enum.StrEnum):
    A = "a"


class Slots:
    __slots__ = ("__weakref__", "a", "b")

    def __init__(self) -> None:
        self.a = 1


class WithState:
    def __init__(self) -> None:
        self.kept = [1, 2]
        self.dropped = object()

    def __getstate__(self) -> dict[str, Any]:
        return {"kept": self.kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.kept = state["kept"]
        self.dropped = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, WithState) and self.kept == other.kept

    __hash__ = None  # type: ignore[assignment]


def _with_state() -> WithState:
    value = WithState()
    value.dropped = None
    return value


class WithArguments:
    def __new__(cls, number: int) -> WithArguments:  # noqa: PYI034
        made = super().__new__(cls)
        made.number = number
        return made

    number: int

    def __getnewargs__(self) -> tuple[int]:
        return (self.number,)


class IntLike(int):
    pass


class StrLike(str):
    __slots__ = ()


class FloatLike(float):
    pass


class BytesLike(bytes):
    pass


class RequestError(Exception):
    """An exception that pickle alone can't restore: its signature isn't its args."""

    def __init__(self, url: str, *, status: int) -> None:
        super().__init__(f"{url} answered {status}")
        self.url = url
        self.status = status


class Meta(type):
    pass


class WithMeta(metaclass=Meta):
    def __eq__(self, other: object) -> bool:
        return type(other) is WithMeta

    def __hash__(self) -> int:
        return 1


class Model(pydantic.BaseModel):
    name: str
    tags: list[str] = []
    inner: Model | None = None


class Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, extra="allow")
    number: int
    _secret: int = pydantic.PrivateAttr(default=3)


def double(x: int) -> int:
    return 2 * x


def _node_cycle() -> Row:
    row = Row("a")
    row.values = [row]  # type: ignore[list-item]
    return row


CASES: dict[str, Any] = {
    "dataclass": lambda: Row("r", [1.0, 2.0]),
    "dataclass_frozen_slots": lambda: Frozen(1, (2, 3)),
    "dataclass_generic": lambda: Holder([Row("x")]),
    "dataclass_cycle": _node_cycle,
    "enum": lambda: Color.RED,
    "enums": lambda: [Color.RED, Color.BLUE, Color.RED],
    "int_enum": lambda: Level.HIGH,
    "flag": lambda: Right.READ | Right.WRITE,
    "str_enum": lambda: Word.A,
    "enum_class": lambda: Color,
    "slots": Slots,
    "state": _with_state,
    "new_arguments": lambda: WithArguments(4),
    "int_subclass": lambda: IntLike(5),
    "str_subclass": lambda: StrLike("s"),
    "float_subclass": lambda: FloatLike(0.1),
    "bytes_subclass": lambda: BytesLike(b"b"),
    "exception": lambda: RequestError("http://x", status=404),
    "exceptions": lambda: [RequestError("http://x", status=404)] * 2,
    "metaclass_instance": WithMeta,
    "metaclass_class": lambda: WithMeta,
    "pydantic": lambda: Model(name="a", tags=["x"], inner=Model(name="b")),
    "pydantic_frozen": lambda: Strict(number=1, more="x"),  # type: ignore[call-arg]
    "pydantic_class": lambda: Model,
    "function": lambda: double,
    "class": lambda: Row,
    "partial": lambda: functools.partial(double, 3),
    "bound_method": lambda: Row("r").__repr__,
    "mixed": lambda: {Color.RED: [Row("a"), Frozen(1)], Level.LOW: Model(name="m")},
}
