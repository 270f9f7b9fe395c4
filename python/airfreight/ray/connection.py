"""
A Ray cluster as an Airflow connection describes it.

Every field of astronomer's provider keeps its meaning, so that a connection made for it goes on working; host, port
and password do what Airflow users expect of them.
"""

from __future__ import annotations

import json
import logging
import os
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airfreight.errors import InvalidError
from airfreight.extra import Extra

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from airfreight._remote import KubeForward, RayClient

log = logging.getLogger(__name__)

#: Where Ray's dashboard listens unless told otherwise.
DASHBOARD_PORT = 8265

#: Ray Client's port, to which connections of the 2021 provider point.
RAY_CLIENT_PORT = 10001

#: Seconds for which a cluster may be silent before a task fails.
PATIENCE = 300.0

TIMEOUT = 30.0

#: Seconds after which a runner without work ends.
RUNNER_IDLE_SECONDS = 900.0

#: What a connection may say for all of its tasks.
_DEFAULTS = ("num_cpus", "num_gpus", "memory", "resources", "runtime_env")

_PORT_MAX = 65535


@dataclass(frozen=True, slots=True)
class RayConnection:
    """
    How to reach one cluster; made by :func:`read`.

    :param defaults: what its tasks ask for unless they say otherwise: ``num_cpus``, ``num_gpus``, ``memory``,
        ``resources``, ``runtime_env``.
    :param allow_pickle: whether functions' values may go there and come back as pickles.
    :param mode: how functions run there unless a task says otherwise; ``None``: as the settings say.
    :param runner_port: the port on which a runner listens; 0 for any.
    :param runner_idle_seconds: a runner ends after so long without work; 0 for never.
    :param kubernetes: the fields that lead to a Kubernetes API server.
    """

    conn_id: str
    address: str
    token: str | None = field(default=None, repr=False)
    basic: tuple[str, str] | None = field(default=None, repr=False)
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    cookies: dict[str, str] = field(default_factory=dict, repr=False)
    metadata: dict[str, str] = field(default_factory=dict)
    verify: bool | str = True
    client_cert: str | None = None
    client_key: str | None = None
    proxy: str | None = field(default=None, repr=False)
    timeout: float = TIMEOUT
    patience: float = PATIENCE
    defaults: dict[str, Any] = field(default_factory=dict, repr=False)
    allow_pickle: bool = True
    mode: str | None = None
    runner_port: int = 0
    runner_idle_seconds: float = RUNNER_IDLE_SECONDS
    kubernetes: dict[str, Any] = field(default_factory=dict, repr=False)

    def client(self, address: str | None = None) -> RayClient:
        """
        A client of the cluster; cheap, it connects with the first question. Only a cluster on Kubernetes is looked up.

        :param address: another dashboard than the connection's, with the same credentials.
        :raises InvalidError: there is no address, or it can't be used.
        """
        from airfreight.ray import kubernetes

        where = address or self.address
        if not where:
            raise InvalidError(
                f"connection `{self.conn_id}` doesn't say where Ray is",
                "set its address to the URL of the Ray dashboard, such as http://ray-head:8265, or RAY_ADDRESS in the "
                "environment of workers and triggerers",
            )
        if place := kubernetes.place_of(where):
            return kubernetes.client(self, *place)
        return self.client_at(where, token=self.token)

    def client_at(self, url: str, *, token: str | None, through: KubeForward | None = None) -> RayClient:
        """
        A client of what is at a URL.

        :param through: what has to stay open for the URL to lead there.
        """
        from airfreight._remote import RayClient

        return RayClient(
            url,
            token=token,
            basic=self.basic,
            headers=self.headers or None,
            cookies=self.cookies or None,
            verify=self.verify,
            client_cert=self.client_cert,
            client_key=self.client_key,
            proxy=self.proxy,
            timeout=self.timeout,
            patience=self.patience,
            through=through,
        )

    def secrets(self) -> Iterator[str]:
        """What must never be in a log."""
        if self.token:
            yield self.token
        if self.basic:
            yield self.basic[1]
        for value in (*self.headers.values(), *self.cookies.values()):
            yield value
            # `Bearer abc`: the token without its scheme is as secret.
            if " " in value:
                yield value.rpartition(" ")[2]
        if config := self.kubernetes.get("kube_config"):
            yield config if isinstance(config, str) else json.dumps(config)
            yield from _kube_secrets(config)
        if self.proxy and "@" in self.proxy:
            yield self.proxy.rpartition("@")[0].rpartition("/")[2].partition(":")[2]


def read(connection: Any, conn_id: str, environ: Mapping[str, str] = os.environ) -> RayConnection:
    """
    What an Airflow connection says; nothing is asked of the cluster.

    :param connection: Airflow's; ``None`` where none is defined and the environment alone says where Ray is.
    :raises InvalidError: a field has no meaning; the message names it.
    """
    extra = _Extra(connection, conn_id, "ray")
    address = extra.text("address") or _host(connection, conn_id) or environ.get("RAY_ADDRESS")
    token, basic = _credentials(connection, extra, environ)
    kubernetes = {
        name: value
        for name in ("kube_config_path", "kube_config", "namespace", "cluster_context", "kuberay_manifests")
        if (value := extra.get(name)) is not None
    }
    for name in ("in_cluster", "disable_verify_ssl", "disable_tcp_keepalive"):
        kubernetes[name] = extra.boolean(name, default=False)
    if "kube_config" in kubernetes and "kube_config_path" in kubernetes:
        raise InvalidError(
            f"connection `{conn_id}` has both kube_config and kube_config_path",
            "keep one of them: they exclude each other",
        )
    return RayConnection(
        conn_id=conn_id,
        address=address or environ.get("RAY_URL") or "",
        token=token,
        basic=basic,
        headers=extra.texts("headers"),
        cookies=extra.texts("cookies"),
        metadata=extra.texts("metadata"),
        verify=extra.verify(),
        client_cert=extra.text("client_cert"),
        client_key=extra.text("client_key"),
        proxy=extra.text("proxy"),
        timeout=extra.number("timeout", TIMEOUT),
        patience=extra.number("patience", PATIENCE),
        defaults=extra.defaults(),
        allow_pickle=extra.boolean("allow_pickle", default=True),
        mode=extra.mode(),
        runner_port=extra.port("runner_port"),
        runner_idle_seconds=extra.number("runner_idle_seconds", RUNNER_IDLE_SECONDS, zero=True),
        kubernetes=kubernetes,
    )


def _credentials(
    connection: Any, extra: _Extra, environ: Mapping[str, str]
) -> tuple[str | None, tuple[str, str] | None]:
    login = getattr(connection, "login", None) or None
    password = getattr(connection, "password", None) or None
    token = extra.text("token")
    basic = None
    if login:
        basic = (login, password or "")
    elif password:
        token = token or password
    return token or environ.get("RAY_AUTH_TOKEN") or None, basic


def _host(connection: Any, conn_id: str) -> str | None:
    host = (getattr(connection, "host", None) or "").strip()
    if not host:
        return None
    schema = (getattr(connection, "schema", None) or "").strip()
    scheme, separator, rest = host.rpartition("://")
    if not separator:
        scheme = schema if schema in ("http", "https") else "http"
    name, slash, path = rest.partition("/")
    port = getattr(connection, "port", None)
    if port == RAY_CLIENT_PORT or name.endswith(f":{RAY_CLIENT_PORT}"):
        name = name.removesuffix(f":{RAY_CLIENT_PORT}")
        port = DASHBOARD_PORT
        log.warning(
            "connection `%s` points to port %s, where Ray Client listens, which isn't used any more: taking the "
            "dashboard's port %s instead. Set the connection's type to `ray` and its port to %s",
            conn_id,
            RAY_CLIENT_PORT,
            DASHBOARD_PORT,
            DASHBOARD_PORT,
        )
    if port:
        name = f"{name}:{port}"
    elif not separator and ":" not in name.rpartition("]")[2]:
        # A whole URL says by itself where it leads; a bare host has Ray's own port.
        name = f"{name}:{DASHBOARD_PORT}"
    return f"{scheme}://{name}{slash}{path}"


def _kube_secrets(config: Any) -> Iterator[str]:
    """What is secret in a kubeconfig."""
    if isinstance(config, str):
        with suppress(ValueError):
            config = json.loads(config)
    users = config.get("users") if isinstance(config, dict) else None
    for entry in users if isinstance(users, list) else ():
        user = entry.get("user") if isinstance(entry, dict) else None
        for name in ("token", "password", "client-key-data"):
            if isinstance(user, dict) and isinstance(user.get(name), str):
                yield user[name]


class _Extra(Extra):
    """What only connections to Ray have."""

    def port(self, name: str) -> int:
        value = self.get(name)
        with suppress(TypeError, ValueError):
            if 0 <= (number := int(value or 0)) <= _PORT_MAX:
                return number
        raise self.refuse(name, "a port, or 0 for any")

    def mode(self) -> str | None:
        from airfreight.settings import RAY_MODES

        value = self.text("mode")
        if value is None or value.lower() in RAY_MODES:
            return value.lower() if value else None
        raise self.refuse("mode", "auto, warm or cold")

    def defaults(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name in _DEFAULTS:
            if name in ("resources", "runtime_env"):
                value: Any = self.mapping(name)
            else:
                value = self.get(name)
                if value is not None:
                    try:
                        value = float(value)
                    except (TypeError, ValueError):
                        raise self.refuse(name, "a number") from None
            if value:
                found[name] = value
        return found


def mask(connection: RayConnection) -> None:
    """Keep the connection's secrets out of the logs of this process and of its supervisor."""
    from airfreight.ray import versions

    for secret in connection.secrets():
        with suppress(Exception):
            versions.mask_secret(secret)
