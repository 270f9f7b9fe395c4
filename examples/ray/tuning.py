"""
### XGBoost with tuning

The search of 2021's provider, for tumours. `tune` is one task whose trials are remote functions of Ray's: all start,
the better half of them grows on, and so forth until one is left, each going on from the trees that it has. Frames and
models stay in the cluster's memory, between tasks as between trials; to the worker comes the one that won.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import Param, dag, task

if TYPE_CHECKING:
    import pandas as pd
    from xgboost import XGBClassifier


@dag(schedule=None, tags=["example", "ray"], doc_md=__doc__, params={"trials": Param(8, type="integer", minimum=1)})
def tuning() -> None:
    @task.ray(mode="warm", num_cpus=0.5, multiple_outputs=True)
    def load() -> dict[str, pd.DataFrame]:
        from sklearn.datasets import load_breast_cancer
        from sklearn.model_selection import train_test_split

        known, unseen = train_test_split(load_breast_cancer(as_frame=True).frame, test_size=0.25, random_state=0)
        return {"known": known, "unseen": unseen}

    @task.ray(mode="warm", num_cpus=0)
    def tune(known: pd.DataFrame, trials: int) -> dict[str, Any]:
        import random

        import ray
        from sklearn.metrics import log_loss
        from sklearn.model_selection import train_test_split
        from xgboost import XGBClassifier

        @ray.remote(num_cpus=0.5, num_returns=2)
        def grow(
            parameters: dict[str, Any],
            model: XGBClassifier | None,
            trees: int,
            train: pd.DataFrame,
            check: pd.DataFrame,
        ) -> tuple[XGBClassifier, float]:
            """Add so many trees to a model, and look how far off it is then."""
            grown = XGBClassifier(**parameters, n_estimators=trees, n_jobs=1, random_state=0)
            grown.fit(train.drop(columns="target"), train["target"], xgb_model=model)
            return grown, float(log_loss(check["target"], grown.predict_proba(check.drop(columns="target"))))

        chance = random.Random(2021)
        alive: list[dict[str, Any]] = [
            {
                "parameters": {
                    "max_depth": chance.randint(1, 8),
                    "min_child_weight": chance.choice([1, 2, 3]),
                    "subsample": chance.uniform(0.5, 1),
                    "learning_rate": 10 ** chance.uniform(-3, -0.5),
                },
                "model": None,
            }
            for _ in range(int(trials))
        ]
        sets = [ray.put(part) for part in train_test_split(known, test_size=0.25, random_state=0)]
        trees, more = 0, 10
        while True:
            for trial in alive:
                # What stands here are references: a model is where it was grown, and is read there.
                trial["model"], trial["loss"] = grow.remote(trial["parameters"], trial["model"], more, *sets)
            losses = ray.get([trial["loss"] for trial in alive])
            order = sorted(range(len(alive)), key=losses.__getitem__)
            trees, more = trees + more, trees + more
            print(f"{len(alive)} trials with {trees} trees: {losses[order[0]]:.4f} to {losses[order[-1]]:.4f}")
            if len(alive) == 1:
                return {"parameters": alive[0]["parameters"], "trees": trees, "loss": losses[0]}
            alive = [alive[index] for index in order[: len(alive) // 2]]

    @task.ray(mode="warm", num_cpus=1)
    def train(known: pd.DataFrame, best: dict[str, Any]) -> XGBClassifier:
        from xgboost import XGBClassifier

        model = XGBClassifier(**best["parameters"], n_estimators=best["trees"], n_jobs=1, random_state=0)
        return model.fit(known.drop(columns="target"), known["target"])

    @task
    def judge(model: XGBClassifier, unseen: pd.DataFrame) -> float:
        from sklearn.metrics import roc_auc_score

        score = roc_auc_score(unseen["target"], model.predict_proba(unseen.drop(columns="target"))[:, 1])
        print(f"{score:.4f} on {len(unseen)} tumours that no trial has seen")
        return round(float(score), 4)

    tumours = load()
    best = tune(tumours["known"], "{{ params.trials }}")
    judge(train(tumours["known"], best), tumours["unseen"])


tuning()
