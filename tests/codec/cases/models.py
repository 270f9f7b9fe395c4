"""Sparse matrices and trained models."""

from __future__ import annotations

import functools
from importlib.util import find_spec
from typing import Any

import numpy as np
import scipy.sparse as sp
from sklearn.compose import ColumnTransformer
from sklearn.datasets import make_classification
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler


@functools.cache
def _data() -> tuple[np.ndarray, np.ndarray]:
    return make_classification(300, 8, random_state=3)  # type: ignore[no-any-return]


def _dense() -> np.ndarray:
    dense = np.arange(600.0).reshape(20, 30)
    dense[dense % 7 > 0] = 0
    return dense


def _pipeline() -> Any:
    model = make_pipeline(StandardScaler(), LogisticRegression())
    return model.fit(*_data())


def _encoder() -> Any:
    data = np.array([["a", 1], ["b", 2], ["a", 3]], object)
    return ColumnTransformer([("kind", OneHotEncoder(), [0])], remainder="drop").fit(data)


CASES: dict[str, Any] = {
    **{
        f"sparse {name}": lambda name=name: sp.csr_matrix(_dense()).asformat(name)
        for name in ("csr", "csc", "coo", "bsr", "dia", "lil", "dok")
    },
    **{
        f"sparse array {name}": lambda name=name: sp.csr_array(_dense()).asformat(name)
        for name in ("csr", "coo", "dok")
    },
    "forest": lambda: RandomForestClassifier(5, random_state=1).fit(*_data()),
    "boosting": lambda: HistGradientBoostingClassifier(max_iter=5, random_state=1).fit(*_data()),
    "pipeline": _pipeline,
    "encoder": _encoder,
    "untrained": lambda: LogisticRegression(C=3.0),
}

if find_spec("xgboost") is not None:
    import xgboost

    def _booster() -> Any:
        data, labels = _data()
        booster = xgboost.train({"seed": 1, "nthread": 1}, xgboost.DMatrix(data, labels), num_boost_round=20)
        booster.set_attr(note="kept")
        return booster

    def _classifier() -> Any:
        return xgboost.XGBClassifier(n_estimators=5, random_state=1, n_jobs=1).fit(*_data())

    CASES["booster"] = _booster
    CASES["classifier"] = _classifier
    CASES["boosters shared"] = lambda: (lambda booster: [booster, booster])(_booster())
