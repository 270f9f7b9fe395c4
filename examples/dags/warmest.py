"""
### Which day was the warmest?

Two tasks, and between them a frame that is far too large for Airflow's database.
"""

from airflow.sdk import dag, task


@dag(schedule=None)
def warmest():
    @task
    def measure():
        import numpy as np
        import pandas as pd

        at = pd.date_range("2026-01-01", periods=5_000_000, freq="s")
        return pd.DataFrame({"at": at, "celsius": np.random.default_rng().normal(15, 8, len(at))})

    @task
    def find(frame):
        return str(frame.resample("1D", on="at")["celsius"].mean().idxmax().date())

    find(measure())


warmest()
