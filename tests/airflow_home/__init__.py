"""
A real Airflow for tests and the demo: every component, in a temporary folder, stopped to the last process.

.. code-block:: python

    with AirflowHome(dags=Path("examples/dags")) as airflow:
        run_id = airflow.trigger("flights")
        airflow.wait("flights", run_id)

It needs nothing but the standard library, so that it can drive an Airflow of any version in any virtual environment.
"""

from airflow_home.errors import (
    AirflowHomeError,
    ApiError,
    ComponentDiedError,
    DagBrokenError,
    RunFailedError,
    WaitTimeoutError,
)
from airflow_home.home import AirflowHome, Progress

__all__ = [
    "AirflowHome",
    "AirflowHomeError",
    "ApiError",
    "ComponentDiedError",
    "DagBrokenError",
    "Progress",
    "RunFailedError",
    "WaitTimeoutError",
]
