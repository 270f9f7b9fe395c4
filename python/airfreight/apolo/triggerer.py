"""Whether a triggerer is there, which no task is told: who defers without one waits for ever."""

from __future__ import annotations

import json
import logging
import ssl
import urllib.request
from contextlib import suppress
from urllib.parse import urlsplit

from airfreight.ray import versions

log = logging.getLogger(__name__)

#: Airflow answers in milliseconds; a task waits no longer for what it can do without.
_ANSWER_SECONDS = 3.0


def is_alive() -> bool:
    """
    Whether Airflow says that a triggerer is healthy; where it can't be asked there is none.

    The page of its health is open to everybody, and on the server that workers talk to anyway, unless that one serves
    nothing but workers.
    """
    try:
        with urllib.request.urlopen(  # noqa: S310 - only HTTP comes out of it
            _address(), timeout=_ANSWER_SECONDS, context=_trust()
        ) as answer:
            health = json.load(answer)
        return bool(health["triggerer"]["status"] == "healthy")
    except Exception:
        log.debug("Airflow does not say whether there is a triggerer", exc_info=True)
        return False


def _address() -> str:
    """Where Airflow tells of its health: beside the interface for workers."""
    conf = versions.configuration()
    base = conf.get("core", "execution_api_server_url", fallback=None) or conf.get("api", "base_url", fallback="/")
    if base.startswith("/"):
        base = f"http://localhost:8080{base}"
    base = base.rstrip("/").removesuffix("/execution")
    if urlsplit(base).scheme not in ("http", "https"):
        raise ValueError("Airflow's address is none of HTTP")
    return f"{base}/api/v2/monitor/health"


def _trust() -> ssl.SSLContext:
    """The system's authorities, and those that Airflow's own requests trust."""
    conf = versions.configuration()
    context = ssl.create_default_context()
    for name in ("ssl_ca_file", "ssl_cert"):
        if path := conf.get("api", name, fallback=None):
            with suppress(OSError):
                context.load_verify_locations(path)
    return context
