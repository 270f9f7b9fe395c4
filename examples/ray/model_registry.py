"""
### A model, trained on the cluster, registered and promoted

Training runs on Ray; the model and its score come back as the task's values. The next tasks are Airflow's own: they
file the model under a new version and make it the champion if it beats the one that is. DAGs that use the model are
scheduled on the asset `champion`.

`registry` is a folder or a bucket (`s3://…`).
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset, Param, dag, task

if TYPE_CHECKING:
    from xgboost import XGBClassifier

REGISTRY = (Path(tempfile.gettempdir()) / "airfreight-registry").as_uri()
CHAMPION = Asset("champion", uri="x-models://breast-cancer/champion")


@dag(
    schedule=None,
    tags=["example", "ray"],
    doc_md=__doc__,
    params={"registry": Param(REGISTRY), "trees": Param(50, type="integer", minimum=1)},
)
def model_registry() -> None:
    @task.ray(num_cpus=1, multiple_outputs=True)
    def train(trees: int) -> dict[str, Any]:
        from sklearn.datasets import load_breast_cancer
        from sklearn.metrics import roc_auc_score
        from sklearn.model_selection import train_test_split
        from xgboost import XGBClassifier

        samples, malignant = load_breast_cancer(return_X_y=True)
        known, unknown, answers, truth = train_test_split(samples, malignant, test_size=0.25, random_state=0)
        model = XGBClassifier(n_estimators=int(trees), max_depth=3, learning_rate=0.1, n_jobs=1)
        model.fit(known, answers)
        auc = float(roc_auc_score(truth, model.predict_proba(unknown)[:, 1]))
        print(f"Area under the curve with {trees} trees: {auc:.4f}")
        return {"model": model, "card": {"trees": int(trees), "auc": round(auc, 4), "samples": len(known)}}

    @task
    def register(model: XGBClassifier, card: dict[str, Any], registry: str) -> int:
        """File the model with its card under the next version; nothing is ever overwritten."""
        import json

        from airflow.sdk import ObjectStoragePath

        models = ObjectStoragePath(registry)
        models.mkdir(parents=True, exist_ok=True)
        version = 1 + max((int(each.name) for each in models.iterdir() if each.name.isdigit()), default=0)
        folder = models / str(version)
        folder.mkdir()
        (folder / "model.ubj").write_bytes(bytes(model.get_booster().save_raw("ubj")))
        (folder / "card.json").write_text(json.dumps(card | {"version": version}))
        return version

    @task(outlets=[CHAMPION])
    def promote(challenger: int, registry: str) -> dict[str, Any]:
        """Let the new model take the champion's place if it is better."""
        import json

        from airflow.sdk import ObjectStoragePath

        models = ObjectStoragePath(registry)
        cards = {name: models / name / "card.json" for name in ("champion", str(challenger))}
        card: dict[str, Any] = json.loads(cards[str(challenger)].read_text())
        champion = json.loads(cards["champion"].read_text()) if cards["champion"].exists() else None
        if champion is not None and champion["auc"] >= card["auc"]:
            return {"champion": champion["version"], "challenger": challenger, "promoted": False}
        cards["champion"].parent.mkdir(exist_ok=True)
        cards["champion"].write_text(json.dumps(card))
        return {"champion": challenger, "challenger": challenger, "promoted": True}

    trained = train("{{ params.trees }}")
    version = register(trained["model"], trained["card"], "{{ params.registry }}")
    promote(version, "{{ params.registry }}")


model_registry()
