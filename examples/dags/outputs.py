"""
### Several results of one task

With `multiple_outputs`, each entry of the returned dict is a result of its own: a task that takes one does not read
the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import dag, task

if TYPE_CHECKING:
    import numpy as np


@dag(schedule=None, tags=["example"], doc_md=__doc__)
def outputs() -> None:
    @task(multiple_outputs=True)
    def decompose() -> dict[str, Any]:
        """Factorise a matrix of low rank."""
        import numpy as np

        random = np.random.default_rng(11)
        matrix = random.normal(size=(600, 20)) @ random.normal(size=(20, 400))
        left, values, right = np.linalg.svd(matrix, full_matrices=False)
        return {"matrix": matrix, "left": left, "values": values, "right": right, "shape": matrix.shape}

    @task
    def rank(values: np.ndarray) -> int:
        return int((values > values[0] * 1e-10).sum())

    @task
    def largest_error(matrix: np.ndarray, left: np.ndarray, values: np.ndarray, right: np.ndarray, rank: int) -> float:
        """Multiply the factors again, as many as the rank asks for."""
        return float(abs(matrix - left[:, :rank] * values[:rank] @ right[:rank]).max())

    parts = decompose()
    largest_error(parts["matrix"], parts["left"], parts["values"], parts["right"], rank(parts["values"]))


outputs()
