"""Buttons in Airflow's UI."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator

#: The XCom with the job as it was created.
JOB_KEY = "assigned_job"


class BrowseLink(BaseOperatorLink):
    """Leads from a task to what its job serves on its HTTP port."""

    name = "Browse"

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:
        """What the job serves; empty without an HTTP port. The operator has pushed it as soon as there was a job."""
        job = getattr(operator, "job", None)
        if not job:
            with suppress(Exception):
                from airflow.sdk.execution_time.xcom import XCom

                job = XCom.get_value(key=JOB_KEY, ti_key=ti_key)
        return str((job or {}).get("http_url_named") or (job or {}).get("http_url") or "")
