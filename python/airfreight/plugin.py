"""What Airflow loads from the ``airflow.plugins`` entry point: listeners in task processes, pages in the UI."""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import Any

from airflow.plugins_manager import AirflowPlugin

from airfreight import listener

log = logging.getLogger(__name__)


class _Made:
    """
    A list that is made where it is asked for.

    Every component of Airflow loads the plugin, and the API server alone asks for applications and links.
    """

    def __init__(self, make: Any) -> None:
        self._make = make

    def __get__(self, instance: Any, owner: type) -> list[dict[str, Any]]:
        try:
            made: list[dict[str, Any]] = self._make()
        except Exception as error:  # noqa: BLE001
            # Whatever is wrong with the pages should not cost the API server its plugins.
            log.warning("The pages of agents are not shown in Airflow: %s", error)
            return []
        return made


@lru_cache(maxsize=1)
def _applications() -> list[dict[str, Any]]:
    from airfreight.view import PREFIX, make_app

    return [{"app": make_app(), "url_prefix": PREFIX, "name": "Airfreight"}]


def _links() -> list[dict[str, Any]]:
    from urllib.parse import urlsplit

    from airflow.configuration import conf

    from airfreight.settings import load_settings
    from airfreight.view import links

    return links(load_settings(), urlsplit(conf.get("api", "base_url", fallback="") or "").path)


class AirfreightPlugin(AirflowPlugin):
    """
    Tells the XCom backend which task runs in its process, and lets the store lose expired objects at its end.

    Shows what stores hold in Airflow's UI (:mod:`airfreight.view`): pages from Airflow 3.0 on, links to them from 3.1.
    """

    name = "airfreight"
    listeners = [listener]  # noqa: RUF012 - as the base class declares it
    fastapi_apps = _Made(_applications)
    external_views = _Made(_links)
