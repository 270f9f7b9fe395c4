"""
The platform as an Airflow connection describes it.

A connection made for ``neuro-airflow-plugin``, which had all of it in its extra, goes on working.
"""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airfreight.errors import InvalidError
from airfreight.extra import Extra

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airfreight._remote import ApoloClient

#: Seconds for which the platform may be silent before a task fails.
PATIENCE = 300.0

TIMEOUT = 30.0


@dataclass(frozen=True, slots=True)
class ApoloConnection:
    """
    How to reach the platform, and as whom; made by :func:`read`.

    :param token: a raw token, or the platform's passed config.
    """

    conn_id: str
    token: str | None = field(default=None, repr=False)
    api_url: str | None = None
    cluster: str | None = None
    org: str | None = None
    project: str | None = None
    verify: bool | str = True
    proxy: str | None = field(default=None, repr=False)
    timeout: float = TIMEOUT
    patience: float = PATIENCE

    def client(self, *, cluster: str | None = None, org: str | None = None, project: str | None = None) -> ApoloClient:
        """
        A client of the platform; cheap, it connects with the first question.

        :param cluster: another cluster than the connection's; so are then organisation and project.
        :raises InvalidError: there is no token, or a field can't be used.
        """
        from airfreight._remote import ApoloClient

        if not self.token:
            raise InvalidError(
                f"connection `{self.conn_id}` has no token",
                "put what `apolo service-account create` prints into its password",
            )
        is_elsewhere = cluster is not None and cluster != self.cluster
        is_elsewhere_for = is_elsewhere or (org is not None and org != self.org)
        return ApoloClient(
            self.token,
            api_url=self.api_url,
            cluster=cluster or self.cluster,
            org=org or (None if is_elsewhere else self.org),
            project=project or (None if is_elsewhere_for else self.project),
            verify=self.verify,
            proxy=self.proxy,
            timeout=self.timeout,
            patience=self.patience,
        )

    def passed(self) -> dict[str, str]:
        """What the passed config says, if the token is one: ``token``, ``cluster``, ``url``, …."""
        with suppress(ValueError):
            decoded = json.loads(base64.b64decode("".join((self.token or "").split()), validate=True))
            if isinstance(decoded, dict) and isinstance(decoded.get("token"), str):
                return {key: value for key, value in decoded.items() if isinstance(value, str)}
        return {}

    def secrets(self) -> Iterator[str]:
        """What must never be in a log."""
        if self.token:
            yield self.token
        if token := self.passed().get("token"):
            yield token
        if self.proxy and "@" in self.proxy:
            yield self.proxy.rpartition("@")[0].rpartition("/")[2].partition(":")[2]


def read(connection: Any, conn_id: str) -> ApoloConnection:
    """
    What an Airflow connection says, of whatever type it is; nothing is asked of the platform.

    :raises InvalidError: a field has no meaning; the message names it.
    """
    extra = Extra(connection, conn_id, "apolo")
    return ApoloConnection(
        conn_id=conn_id,
        token=(getattr(connection, "password", None) or "").strip() or extra.text("token"),
        api_url=extra.text("api_url"),
        cluster=extra.text("cluster"),
        org=extra.text("org"),
        project=extra.text("project"),
        verify=extra.verify(),
        proxy=extra.text("proxy"),
        timeout=extra.number("timeout", TIMEOUT),
        patience=extra.number("patience", PATIENCE),
    )


def mask(connection: ApoloConnection) -> None:
    """Keep the connection's secrets out of the logs of this process and of its supervisor."""
    from airfreight.ray import versions

    for secret in connection.secrets():
        with suppress(Exception):
            versions.mask_secret(secret)
