"""
Values of other hosts: where a host's agent is, and how a value comes here from another's.

A row names the agent of the host that made its value. It is signed, so nobody leads a task elsewhere by changing it.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import re
from pathlib import Path
from time import monotonic, perf_counter
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from airfreight import journal, references
from airfreight.errors import (
    AirfreightError,
    CorruptError,
    DeniedError,
    InvalidError,
    ObjectLostError,
    ObjectNotFoundError,
    UnavailableError,
)

if TYPE_CHECKING:
    from airfreight._remote import Agent
    from airfreight.process import Process
    from airfreight.references import Row
    from airfreight.settings import Settings

#: One name for all that happens to values, so that it can be filtered as a whole.
log = logging.getLogger("airfreight.xcom")

#: An agent that doesn't answer is waited for, since it may just be starting again; not so long where there is a copy.
_DOUBT_SECONDS = 5.0
_DOUBT_SECONDS_WITH_COPY = 0.5

#: One that was not there is not asked again for so long by who has a copy.
_ABSENCE_SECONDS = 60.0

_PLACEHOLDER = re.compile(r"\{(\w+)\}")


def own_url(settings: Settings) -> str | None:
    """
    Where tasks on other hosts find this host's agent; ``None``: nowhere.

    :raises InvalidError: the setting asks for a variable that isn't there, or what comes of it is no URL.
    """
    template = settings.agent_url
    if template is None:
        return None

    def fill(match: re.Match[str]) -> str:
        name = match[1]
        value = references.host_name() if name == "host" else os.environ.get(name, "")
        if not value:
            raise InvalidError(
                f"[airfreight] agent_url = {template!r} needs the environment variable {name}, which is not set here",
                "under Kubernetes: `valueFrom: {fieldRef: {fieldPath: status.hostIP}}`",
            )
        return f"[{value}]" if _is_ipv6(value) else value

    url = _PLACEHOLDER.sub(fill, template)
    try:
        host = urlsplit(url).hostname
    except ValueError:
        host = None
    if not host:
        raise InvalidError(f"[airfreight] agent_url = {template!r} becomes {url!r} here, which is no URL")
    return url


def serve(process: Process, row: Row) -> bool:
    """Whether a row's value can be asked for at the agent of another host."""
    return "agent" in row and row.get("store") != process.store.store_id


def fetch(process: Process, row: Row, name: str, *, has_copy: bool = False) -> None:
    """
    Bring an object from the host that made it into the store of this one, under its own name.

    However many tasks of this host ask for it at once, it comes once.

    :param has_copy: whether it can be read elsewhere, so that waiting for an agent that isn't there is worth little.
    :raises ObjectLostError: that host, its agent or the object is gone; the message says which, and what to clear.
    :raises StoreFullError: there is no room for it here.
    """
    began = perf_counter()
    url, host = str(row["agent"]), row.get("host")
    value = references.value_text(row)
    again = references.clear_hint(row.get("owner") or {})
    if has_copy and monotonic() - process.absent.get(url, -_ABSENCE_SECONDS) < _ABSENCE_SECONDS:
        raise UnavailableError(f"{value} is in the shared memory of host {host}, whose agent did not answer just now")
    try:
        progress = journal.progress("fetched", f"from host {host}")
        agent = _agent(process, url, _DOUBT_SECONDS_WITH_COPY if has_copy else _DOUBT_SECONDS)
        nbytes = agent.fetch(process.store_options, name, progress)
    except ObjectNotFoundError as error:
        raise ObjectLostError(
            f"{value} is gone from host {host}: it has expired or was deleted there, or the host was started again "
            f"({error.message})",
            again,
        ) from error
    except UnavailableError as error:
        process.absent[url] = monotonic()
        raise ObjectLostError(
            f"{value} is in the shared memory of host {host}, which cannot be reached ({error.message})",
            f"if that host is gone, {again}; else look for its `airfreight agent`",
        ) from error
    except CorruptError as error:
        raise CorruptError(f"{value} cannot be read from host {host}: {error.message}", again) from error
    except AirfreightError as error:
        error.message = f"{value} cannot be read from host {host}: {error.message}"
        error.args = (error.message, error.hint)
        raise
    if nbytes is None:
        log.info("%s came from host %s with another task", value, host)
    else:
        size, milliseconds = references.size_text(nbytes), (perf_counter() - began) * 1e3
        log.info("fetched %s from host %s: %s in %.1f ms", value, host, size, milliseconds)


def _agent(process: Process, url: str, doubt: float) -> Agent:
    known = process.agents.get((url, doubt))
    if known is None:
        from airfreight._remote import Agent

        settings = process.settings
        known = process.agents[url, doubt] = Agent(
            url,
            doubt=doubt,
            token=token(settings),
            authorities=settings.agent_ca_file,
            certificate=settings.agent_certificate_file,
            key=settings.agent_key_file,
        )
    return known


def token(settings: Settings) -> str | None:
    """
    The token by which agents are asked.

    :raises DeniedError: its file cannot be read.
    """
    path = settings.agent_token_file
    if path is None:
        return settings.agent_token
    try:
        lines = Path(path).read_text(encoding="ascii").split()
    except (OSError, UnicodeDecodeError) as error:
        raise DeniedError(
            f"cannot read the token of [airfreight] agent_token_file = {path!r}: {error}",
            "mount the same file into workers and agents, readable by their user",
        ) from error
    # The first is the newest, as with keys; agents know those from before, too.
    return lines[0] if lines else None


def _is_ipv6(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).version == 6
    except ValueError:
        return False
