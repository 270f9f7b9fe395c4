"""Buttons in Airflow's UI."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator

#: The XCom with the URL of the job's page in the Ray dashboard.
URL_KEY = "ray_job_url"


class RayJobLink(BaseOperatorLink):
    """Leads from a task to its job in the Ray dashboard."""

    name = "Ray job"

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:
        """
        The page of the job.

        Airflow asks in the process of the task, after every part of it, and gives the running task instance for
        ``ti_key``.
        """
        url = getattr(operator, "job_url", None)
        if not url:
            from airflow.sdk.execution_time.xcom import XCom

            url = XCom.get_value(key=URL_KEY, ti_key=ti_key)
        return str(url or "")
