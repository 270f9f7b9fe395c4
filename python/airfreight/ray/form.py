"""The connection form of the type ``ray``, declared once for all versions of Airflow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a connection's extra."""

    name: str
    label: str
    description: str
    type: str = "string"
    default: bool | None = None
    secret: bool = False

    def declaration(self) -> dict[str, Any]:
        """As the provider info has it."""
        schema: dict[str, Any] = {"type": [self.type, "null"]}
        if self.default is not None:
            schema["default"] = self.default
        if self.secret:
            schema["format"] = "password"
        return {"label": self.label, "description": self.description, "schema": schema}


FIELDS: tuple[Field, ...] = (
    Field("address", "Ray dashboard URL", "For example http://ray-head:8265; instead of host and port."),
    Field("token", "Ray token", "Only beside a login for a proxy; otherwise the password is the token.", secret=True),
    Field("headers", "Headers", "A JSON object, sent with every request.", secret=True),
    Field("cookies", "Cookies", "A JSON object, sent with every request.", secret=True),
    Field("metadata", "Metadata", "A JSON object of texts that every job gets."),
    Field("verify", "Verify", "Check the certificate of an https:// dashboard.", type="boolean", default=True),
    Field("num_cpus", "CPUs", "For the entry point of a job that doesn't say."),
    Field("num_gpus", "GPUs", "For the entry point of a job that doesn't say."),
    Field("memory", "Memory", "Bytes, for the entry point of a job that doesn't say."),
    Field("resources", "Resources", "A JSON object, for the entry point of a job that doesn't say."),
    Field("runtime_env", "Runtime environment", "A JSON object; a job's own keys replace those of here."),
    Field(
        "allow_pickle",
        "Allow pickle",
        "Whether arguments and results of functions may be pickles: who reads one trusts the cluster's code.",
        type="boolean",
        default=True,
    ),
    Field("mode", "Mode", "How functions run here: auto, warm or cold; by default as [airfreight] ray_mode says."),
    Field("runner_port", "Runner's port", "The port on the head on which a runner listens; by default any free one."),
    Field("runner_idle_seconds", "Runner's idle seconds", "A runner without work ends after so long; 0 for never."),
    Field("patience", "Patience", "Seconds for which the dashboard may be silent before tasks fail; 300 by default."),
    Field("kube_config_path", "Kube config path", "For clusters on Kubernetes; by default the usual kubeconfig."),
    Field("kube_config", "Kube config (JSON format)", "In place of a path.", secret=True),
    Field(
        "in_cluster",
        "In cluster",
        "Use the service account of the worker's pod, and no kubeconfig.",
        type="boolean",
        default=False,
    ),
    Field("namespace", "Namespace", "Of clusters whose YAML names none; by default the kubeconfig's."),
    Field("cluster_context", "Cluster context", "The kubeconfig's context; by default the current one."),
    Field(
        "disable_verify_ssl",
        "Disable SSL",
        "Don't check the certificate of the Kubernetes API server.",
        type="boolean",
        default=False,
    ),
    Field("disable_tcp_keepalive", "Disable TCP keepalive", "Without effect.", type="boolean", default=False),
)

HIDDEN: list[str] = []

LABELS: dict[str, str] = {"schema": "Scheme", "login": "Login of a proxy", "password": "Ray token, or password"}

PLACEHOLDERS: dict[str, str] = {
    "host": "ray-head, unless the dashboard URL is set below",
    "port": "8265",
    "schema": "http or https",
    "login": "only for Basic authentication at a proxy",
}


def declaration() -> dict[str, Any]:
    """What the provider info says of the connection type."""
    return {
        "connection-type": "ray",
        "hook-class-name": "airfreight.hooks.ray.RayHook",
        "hook-name": "Ray",
        "ui-field-behaviour": {"hidden-fields": HIDDEN, "relabeling": LABELS, "placeholders": PLACEHOLDERS},
        "conn-fields": {field.name: field.declaration() for field in FIELDS},
    }


def widgets(fields: tuple[Field, ...]) -> dict[str, Any]:
    """The fields as the form of Airflow 3.0 and 3.1 has them."""
    from flask_appbuilder.fieldwidgets import (  # type: ignore[import-not-found,unused-ignore]
        BS3PasswordFieldWidget,
        BS3TextFieldWidget,
    )
    from wtforms import (  # type: ignore[import-not-found,import-untyped,unused-ignore]
        BooleanField,
        PasswordField,
        StringField,
    )

    found: dict[str, Any] = {}
    for each in fields:
        if each.type == "boolean":
            found[each.name] = BooleanField(each.label, default=each.default, description=each.description)
        elif each.secret:
            found[each.name] = PasswordField(each.label, widget=BS3PasswordFieldWidget(), description=each.description)
        else:
            found[each.name] = StringField(each.label, widget=BS3TextFieldWidget(), description=each.description)
    return found
