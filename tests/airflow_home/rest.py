"""A small client of Airflow's REST API."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from airflow_home.errors import ApiError

#: No proxy of the environment may stand between us and the loopback interface.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class RestClient:
    """
    Sends requests as an administrator.

    :param url: where the API server listens, without a path.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._token: str | None = None

    @property
    def token(self) -> str:
        """A bearer token for the public API."""
        if self._token is None:
            self._token = str(self.get("/auth/token", authenticated=False)["access_token"])
        return self._token

    def get(self, path: str, *, authenticated: bool = True, timeout: float = 60.0) -> Any:
        return self.request("GET", path, authenticated=authenticated, timeout=timeout)

    def request(
        self, method: str, path: str, body: Any = None, *, authenticated: bool = True, timeout: float = 60.0
    ) -> Any:
        """
        Send one request and give the decoded answer, or ``None`` where there is none.

        :param path: the whole path, such as ``/api/v2/dags``.
        :param body: sent as JSON.
        :raises ApiError: Airflow answered with an error.
        :raises OSError: Airflow did not answer.
        """
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        if authenticated:
            headers["Authorization"] = f"Bearer {self.token}"
        request = urllib.request.Request(
            self.url + path, method=method, headers=headers, data=None if body is None else json.dumps(body).encode()
        )
        try:
            with _OPENER.open(request, timeout=timeout) as response:
                answer = response.read()
        except urllib.error.HTTPError as error:
            raise ApiError(method, path, error.code, error.read().decode(errors="replace")) from None
        return json.loads(answer) if answer else None


def quote(part: str) -> str:
    """Make one part of a path; run ids contain colons and pluses."""
    return urllib.parse.quote(part, safe="")
