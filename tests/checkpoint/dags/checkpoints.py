"""Values that outlive their host, in the bucket of connection `checkpoint_test`, which the test makes."""

from __future__ import annotations

from airflow.sdk import dag, get_current_context, task

from airfreight.decorators import checkpoint

IN_THE_BUCKET = {"executor_config": {"airfreight": {"checkpoint": "checkpoint_test"}}}


@dag(schedule=None, default_args=IN_THE_BUCKET)
def checkpoint_whole_dag():
    @task
    def make():
        import numpy as np

        return np.arange(200_000)

    @task
    def look(numbers):
        assert int(numbers.sum()) == 19_999_900_000
        return len(numbers)

    look(make())


@dag(schedule=None)
def checkpoint_reused():
    @task
    @checkpoint("checkpoint_test", reuse_checkpoint=True)
    def train():
        import numpy as np

        return np.random.default_rng().random(200_000)

    @task
    def attempt():
        return get_current_context()["ti"].try_number

    @task
    def look(numbers, attempt):
        return [float(numbers.sum()), attempt]

    look(train(), attempt())


checkpoint_whole_dag()
checkpoint_reused()
