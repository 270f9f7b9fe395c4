"""Goal: what a DAG file defines is found by the task of another one. Method: import the file as Airflow does."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from airfreight import codec
from airfreight._store import Store
from airfreight.errors import InvalidError

DAG_FILE = """
from dataclasses import dataclass
from enum import Enum

@dataclass
class Order:
    number: int

class State(Enum):
    NEW = "new"

class OrderError(Exception):
    def __init__(self, order):
        super().__init__(f"bad {order.number}")
        self.order = order

def price(order):
    return order.number * 10
"""


def module_name(path: Path) -> str:
    """The name under which Airflow 3 imports a DAG file."""
    return f"unusual_prefix_{hashlib.sha1(str(path).encode()).hexdigest()}_{path.stem}"


def import_dag_file(path: Path) -> ModuleType:
    name = module_name(path)
    spec = spec_from_loader(name, SourceFileLoader(name, str(path)))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "bundle"
    (folder / "sales").mkdir(parents=True)
    (folder / "sales" / "orders.py").write_text(DAG_FILE)
    monkeypatch.syspath_prepend(str(folder))
    return folder


@pytest.fixture
def orders(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    path = bundle / "sales" / "orders.py"
    monkeypatch.delitem(sys.modules, module_name(path), raising=False)
    return import_dag_file(path)


def read_elsewhere(store: Store, expression: str, *folders: Path) -> subprocess.CompletedProcess[str]:
    """Evaluates an expression in a process that hasn't imported the DAG file."""
    program = (
        "from airfreight import codec\nfrom airfreight._store import Store\n"
        f"store = Store({store.path!r}, create=False)\n"
        f"print({expression})\n"
    )
    path = os.pathsep.join([*map(str, folders), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


def test_an_instance_is_read_by_another_process(store: Store, orders: ModuleType, bundle: Path) -> None:
    name = codec.put(store, {"order": orders.Order(7), "price": orders.price, "state": [orders.State.NEW]}).name
    done = read_elsewhere(store, f"(lambda v: v['price'](v['order']))(codec.get(store, {name!r}))", bundle)
    assert done.stdout == "70\n", done.stderr


def test_the_bundle_may_be_elsewhere_there(store: Store, orders: ModuleType, bundle: Path) -> None:
    name = codec.put(store, orders.Order(8)).name
    moved = bundle.rename(bundle.with_name("moved"))
    done = read_elsewhere(store, f"codec.get(store, {name!r}).number", moved)
    assert done.stdout == "8\n", done.stderr


def test_a_small_value_takes_its_note_along(store: Store, orders: ModuleType, bundle: Path) -> None:
    data = codec.dumps(orders.Order(9), 4096)
    done = read_elsewhere(store, f"codec.loads({data!r}).number", bundle)
    assert done.stdout == "9\n", done.stderr


def test_an_element_is_read_by_another_process(store: Store, orders: ModuleType, bundle: Path) -> None:
    stored = codec.put(store, [orders.Order(1), orders.Order(2)], elements=True)
    assert stored.elements == 2
    done = read_elsewhere(store, f"codec.get_element(store, {stored.name!r}, 1).number", bundle)
    assert done.stdout == "2\n", done.stderr


def test_an_exception_is_read_by_another_process(store: Store, orders: ModuleType, bundle: Path) -> None:
    name = codec.put(store, orders.OrderError(orders.Order(3))).name
    done = read_elsewhere(store, f"repr(codec.get(store, {name!r}))", bundle)
    assert done.stdout == "OrderError('bad 3')\n", done.stderr


def test_long_buffers_in_the_stream_are_no_frames(orders: ModuleType) -> None:
    """In a task, a DAG file is always loaded; so this is how every value there is pickled."""
    array = np.arange(20_000)
    data = codec.dumps([array, orders.Order(4)], 1 << 20)
    assert data is not None
    back, order = codec.loads(data)
    assert (back == array).all()
    assert order.number == 4


def test_two_dag_files_in_one_value(store: Store, orders: ModuleType, bundle: Path) -> None:
    (bundle / "returns-eu.v2.py").write_text("class Return:\n    reason = 'late'\n")
    path = bundle / "returns-eu.v2.py"
    name = f"unusual_prefix_{hashlib.sha1(str(path).encode()).hexdigest()}_returns_eu_v2"
    spec = spec_from_loader(name, SourceFileLoader(name, str(path)))
    module = module_from_spec(spec)  # type: ignore[arg-type]
    sys.modules[name] = module
    spec.loader.exec_module(module)  # type: ignore[union-attr]
    stored = codec.put(store, [orders.Order(4), module.Return()])
    done = read_elsewhere(store, f"codec.get(store, {stored.name!r})[1].reason", bundle)
    assert done.stdout == "late\n", done.stderr
    del sys.modules[name]


def test_a_file_that_is_not_there_is_named(store: Store, orders: ModuleType, bundle: Path) -> None:
    name = codec.put(store, orders.Order(5)).name
    (bundle / "sales" / "orders.py").unlink()
    done = read_elsewhere(store, f"codec.get(store, {name!r})")
    assert "the DAG file sales/orders.py of bundle ? defines a class or function of this value" in done.stderr
    assert "hint: make the file's bundle available to this worker" in done.stderr


def test_a_file_that_fails_is_named_and_leaves_no_module(store: Store, orders: ModuleType, bundle: Path) -> None:
    name = codec.put(store, orders.Order(6)).name
    path = bundle / "sales" / "orders.py"
    path.write_text("raise RuntimeError('broken')\n")
    del sys.modules[module_name(path)]
    with pytest.raises(InvalidError, match=r"orders\.py, which defines a class or function of this value"):
        codec.get(store, name)
    assert module_name(path) not in sys.modules


def test_a_class_that_is_gone_is_explained(store: Store, orders: ModuleType, bundle: Path) -> None:
    name = codec.put(store, orders.Order(6)).name
    (bundle / "sales" / "orders.py").write_text("Order = None\n")
    done = read_elsewhere(store, f"codec.get(store, {name!r})", bundle)
    assert "InvalidError" in done.stderr


def test_a_module_that_is_not_installed_is_explained(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "only_here_x.py").write_text("class Thing: ...\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import only_here_x

    name = codec.put(store, only_here_x.Thing()).name
    monkeypatch.delitem(sys.modules, "only_here_x")
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != str(tmp_path)])
    with pytest.raises(InvalidError, match="module only_here_x, which is not installed here"):
        codec.get(store, name)


def test_values_of_other_modules_carry_no_note(store: Store, orders: ModuleType) -> None:
    stored = store.get(codec.put(store, {"a": 1}).name)
    assert stored.stream[-1] == ord(".")


def test_the_type_is_named_without_airflows_prefix(store: Store, orders: ModuleType) -> None:
    assert codec.put(store, orders.Order(1)).type == "orders.Order"
