"""
### How late will this flight arrive? Ask a cluster.

The pipeline of `flights`, with the heavy part on Ray: a sweep over the parameters of the model, a job for each, and
the training with those that did best. Everything else stays in Airflow's workers, which don't need Ray; frames and
models go there and back as arguments and values.

Needs what `flights` needs, on the cluster `pandas`, `scikit-learn` and `xgboost`, and a connection `ray_default`.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import new_york
from airflow.sdk import Param, dag, task

if TYPE_CHECKING:
    import pandas as pd
    from xgboost import XGBRegressor

SWEEP = [
    {"max_depth": max_depth, "learning_rate": learning_rate} for max_depth in (5, 8) for learning_rate in (0.1, 0.3)
]


def learn(flights: pd.DataFrame, parameters: dict[str, Any], trees: int) -> XGBRegressor:
    """Learn the minutes lost between gate and gate, and stop when September is predicted no better."""
    from xgboost import XGBRegressor

    lost = flights["arr_delay"] - flights["dep_delay"]
    september = flights["date"] >= "2013-09-01"
    model = XGBRegressor(
        **parameters,
        n_estimators=trees,
        min_child_weight=20,
        subsample=0.8,
        colsample_bytree=0.8,
        enable_categorical=True,
        early_stopping_rounds=15,
        eval_metric="mae",
        n_jobs=1,
        random_state=2013,
    )
    return model.fit(
        flights.loc[~september, new_york.FEATURES],
        lost[~september],
        eval_set=[(flights.loc[september, new_york.FEATURES], lost[september])],
        verbose=False,
    )


@dag(
    schedule=None,
    tags=["example", "ray"],
    doc_md=__doc__,
    params={
        "picture": Param(str(Path(tempfile.gettempdir()) / "flights_ray.png"), description="Where the picture goes")
    },
)
def flights_ray() -> None:
    @task
    def sample(training: pd.DataFrame) -> pd.DataFrame:
        """A quarter of the flights is enough to compare."""
        return training.sample(frac=0.25, random_state=2013)

    @task.ray(num_cpus=1)
    def try_out(flights: pd.DataFrame, parameters: dict[str, Any]) -> dict[str, Any]:
        model = learn(flights, parameters, trees=150)
        depth, rate = parameters["max_depth"], parameters["learning_rate"]
        print(f"{model.best_score:.3f} minutes off: depth {depth}, rate {rate}, {model.best_iteration + 1} trees")
        return {"parameters": parameters, "minutes": round(float(model.best_score), 3)}

    @task
    def best(tried: list[dict[str, Any]]) -> dict[str, Any]:
        return min(tried, key=lambda each: each["minutes"])["parameters"]

    @task.ray(num_cpus=1)
    def train(training: pd.DataFrame, parameters: dict[str, Any]) -> XGBRegressor:
        model = learn(training, parameters, trees=400)
        print(f"{model.best_score:.3f} minutes off: {len(training):,} flights, {model.best_iteration + 1} trees")
        return model

    tables = task(multiple_outputs=True)(new_york.extract)()
    joined = task(new_york.clean_and_join)(tables["flights"], tables["weather"], tables["planes"])
    sets = task(multiple_outputs=True)(new_york.features)(joined)
    tried = try_out.partial(flights=sample(sets["training"])).expand(parameters=SWEEP)
    model = train(sets["training"], best(tried))
    result = task(multiple_outputs=True)(new_york.evaluate)(model, sets["test"])
    task(new_york.plot)(model, sets["test"], result["predicted"], result["scores"], path="{{ params.picture }}")


flights_ray()
