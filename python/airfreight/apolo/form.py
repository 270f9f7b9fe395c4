"""The connection forms of the types ``apolo`` and ``neuro``, declared once for all versions of Airflow."""

from __future__ import annotations

from typing import Any

from airfreight.ray.form import Field

FIELDS: tuple[Field, ...] = (
    Field("token", "Token", "In place of the password: a service account's token or passed config.", secret=True),
    Field("cluster", "Cluster", "The first that the token opens, unless given."),
    Field("org", "Organisation", "The cluster's first, unless given."),
    Field("project", "Project", "The first there, unless given."),
    Field("api_url", "API URL", "https://api.apolo.us/api/v1 unless given."),
    Field("verify", "Verify", "false, or the path of a bundle with your authority's certificate."),
    Field("proxy", "Proxy", "The URL of a proxy, in place of what the environment says."),
    Field("timeout", "Timeout", "Seconds for one request; 30 unless given."),
    Field("patience", "Patience", "Seconds for which the platform may be silent before tasks fail; 300 unless given."),
)

HIDDEN: list[str] = ["host", "port", "schema", "login"]

LABELS: dict[str, str] = {"password": "Token, or passed config"}

PLACEHOLDERS: dict[str, str] = {"password": "apolo service-account create prints both"}

_KINDS = {
    "apolo": ("airfreight.hooks.apolo.ApoloHook", "Apolo"),
    "neuro": ("airfreight.hooks.neuro.NeuroHook", "Neuro"),
}


def declarations() -> list[dict[str, Any]]:
    """What the provider info says of the connection types."""
    return [
        {
            "connection-type": kind,
            "hook-class-name": hook,
            "hook-name": name,
            "ui-field-behaviour": {"hidden-fields": HIDDEN, "relabeling": LABELS, "placeholders": PLACEHOLDERS},
            "conn-fields": {field.name: field.declaration() for field in FIELDS},
        }
        for kind, (hook, name) in _KINDS.items()
    ]
