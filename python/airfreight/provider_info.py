"""What Airflow reads to know this provider: its configuration, its commands and its connections."""

from __future__ import annotations

from typing import Any

from airfreight.apolo import form as apolo_form
from airfreight.ray import form
from airfreight.settings import SECTION, SETTINGS, Setting


def get_provider_info() -> dict[str, Any]:
    """Airflow's entry point for providers."""
    return {
        "package-name": "airfreight",
        "name": "Airfreight",
        "description": "Values of any size between tasks, through shared memory; work on Ray, without Ray; and "
        "jobs on Apolo.",
        "connection-types": [form.declaration(), *apolo_form.declarations()],
        "extra-links": ["airfreight.ray.links.RayJobLink", "airfreight.apolo.links.BrowseLink"],
        "task-decorators": [{"name": "ray", "class-name": "airfreight.decorators.ray_task"}],
        "cli": ["airfreight.cli.get_airfreight_cli_commands"],
        "config": {
            SECTION: {
                "description": "How values travel between tasks, when "
                "``[core] xcom_backend = airfreight.xcom.AirfreightXCom``.",
                "options": {setting.name: _option(setting) for setting in SETTINGS},
            }
        },
    }


def _option(setting: Setting) -> dict[str, Any]:
    default = f" Default: {setting.default_text}." if setting.default is None else ""
    option: dict[str, Any] = {
        "description": f"{setting.description}{default} Accepts {setting.accepts}.",
        "version_added": "0.1.0",
        "type": setting.type,
        "example": None if setting.sensitive else setting.example,
        "default": setting.default,
    }
    if setting.sensitive:
        option["sensitive"] = True
    return option
