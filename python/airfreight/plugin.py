"""The plugin that Airflow loads from the ``airflow.plugins`` entry point: listeners in task processes."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin

from airfreight import listener


class AirfreightPlugin(AirflowPlugin):
    """Tells the XCom backend which task runs in its process, and lets the store lose expired objects at its end."""

    name = "airfreight"
    listeners = [listener]  # noqa: RUF012 - as the base class declares it
