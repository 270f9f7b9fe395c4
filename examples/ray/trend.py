"""
### An array goes to a cluster, a fitted curve comes back

The shortest of these examples.
"""

from airflow.sdk import dag, task


@dag(schedule=None, tags=["example", "ray"])
def trend():
    @task
    def measure():
        import numpy as np

        return np.random.default_rng(2013).normal(0, 1, 1_000_000).cumsum()

    @task.ray(num_cpus=2)
    def fit(series):
        import numpy as np

        print(f"Fitting {len(series)} values")
        return np.polynomial.Polynomial.fit(np.arange(len(series)), series, deg=3)

    @task
    def predict(curve):
        return float(curve(1_000_100))

    predict(fit(measure()))


trend()
