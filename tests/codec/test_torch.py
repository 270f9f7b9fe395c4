"""Goal: tensors come back exactly, out of band, with what they share still shared; a gradient graph is refused."""

from __future__ import annotations

from typing import Any

import pytest

from airfreight import codec
from airfreight._store import Store

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.extra

DTYPES = ["uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64", "complex64", "bool"]


def assert_same(actual: Any, expected: Any) -> None:
    assert type(actual) is type(expected)
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    assert actual.stride() == expected.stride()
    assert actual.storage_offset() == expected.storage_offset()
    assert actual.requires_grad == expected.requires_grad
    assert torch.equal(actual.detach(), expected.detach())


def through(store: Store, value: Any) -> Any:
    return codec.get(store, codec.put(store, value).name)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("length", [0, 1, 5000])
def test_a_tensor_comes_back(store: Store, dtype: str, length: int) -> None:
    tensor = torch.arange(length).to(getattr(torch, dtype))
    assert_same(through(store, tensor), tensor)
    data = codec.dumps(tensor, 1 << 20)
    assert data is not None
    assert_same(codec.loads(data), tensor)


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.arange(6000.0).reshape(60, 100).T,
        lambda: torch.arange(6000.0).reshape(60, 100)[3:50:7, ::2],
        lambda: torch.tensor(3.5),
        lambda: torch.zeros(4, 0, 3),
        lambda: torch.ones(5).expand(4000, 5),
        lambda: torch.arange(5000.0, requires_grad=True),
        lambda: torch.nn.Parameter(torch.ones(3000)),
        lambda: torch.nn.Parameter(torch.ones(3), requires_grad=False),
    ],
)
def test_views_and_parameters_come_back(store: Store, make: Any) -> None:
    tensor = make()
    assert_same(through(store, tensor), tensor)


def test_memory_goes_out_of_band_and_is_ones_own(store: Store) -> None:
    tensor = torch.arange(1_000_000.0)
    name = codec.put(store, tensor).name
    assert len(store.get(name).stream) < 2048
    changed = codec.get(store, name)
    changed += 1
    assert_same(codec.get(store, name), tensor)
    assert changed.data_ptr() % 64 == 0


def test_views_still_share_their_storage(store: Store) -> None:
    base = torch.arange(5000.0)
    value = through(store, {"base": base, "part": base[10:20], "same": base})
    assert value["same"] is value["base"]
    value["base"][12] = -1
    assert value["part"][2] == -1


def test_tied_weights_stay_tied(store: Store) -> None:
    class Tied(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.inner = torch.nn.Linear(40, 40)
            self.outer = torch.nn.Linear(40, 40)
            self.outer.weight = self.inner.weight

    state = through(store, Tied().state_dict())
    assert state["inner.weight"].untyped_storage().data_ptr() == state["outer.weight"].untyped_storage().data_ptr()


def test_a_model_comes_back(store: Store) -> None:
    torch.manual_seed(1)
    model = torch.nn.Sequential(torch.nn.Linear(30, 50), torch.nn.ReLU(), torch.nn.Linear(50, 2))
    again = through(store, model)
    sample = torch.ones(4, 30)
    assert torch.equal(again(sample), model(sample))
    again(sample).sum().backward()
    assert again[0].weight.grad is not None


def test_an_optimizer_comes_back(store: Store) -> None:
    model = torch.nn.Linear(30, 5)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(2, 30)).sum().backward()
    optimizer.step()
    state = through(store, optimizer.state_dict())
    assert torch.equal(state["state"][0]["exp_avg"], optimizer.state_dict()["state"][0]["exp_avg"])


def test_a_gradient_graph_is_refused(store: Store) -> None:
    result = torch.nn.Linear(3, 1)(torch.ones(2, 3))
    with pytest.raises(codec.UnstorableError) as caught:
        codec.put(store, {"losses": [result]})
    assert caught.value.path == '["losses"][0]'
    assert "detach" in str(caught.value.hint)


def test_other_layouts_come_back(store: Store) -> None:
    sparse = torch.eye(50).to_sparse()
    assert torch.equal(through(store, sparse).to_dense(), sparse.to_dense())
    conjugate = torch.ones(500, dtype=torch.complex64).conj()
    assert torch.equal(through(store, conjugate), conjugate)


def test_it_previews_as_a_shape() -> None:
    assert codec.describe(torch.zeros(3, 4)) == ("torch.Tensor", {"shape": [3, 4], "dtype": "torch.float32"})
