"""
The ``[airfreight]`` section: every setting is declared here once.

The provider's declaration to Airflow, the checks and docs/configuration.md are made from the declaration.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airfreight.errors import AirfreightError, InvalidError

if TYPE_CHECKING:
    from collections.abc import Callable

SECTION = "airfreight"

#: How a function may run on Ray: by a runner that waits for it, as a job of its own, or as the cluster allows.
RAY_MODES = ("auto", "warm", "cold")

KIB = 1024
MIB = 1024 * KIB

#: What a size may be written in, in bytes.
_UNITS = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}

_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", re.IGNORECASE | re.ASCII)

_KEY_CHARACTERS_MIN = 16


class _RefusedError(Exception):
    """Why a parser does not accept a text; the caller knows which setting it was."""


@dataclass(frozen=True, slots=True)
class Setting:
    """
    One option of the ``[airfreight]`` section.

    :param accepts: what a good value looks like, for messages and the reference page.
    :param default: as it would be written in ``airflow.cfg``; ``None`` when the default depends on the host.
    :param default_text: what happens by default where ``default`` is ``None``.
    """

    name: str
    parse: Callable[[str], Any]
    accepts: str
    description: str
    example: str
    default: str | None = None
    default_text: str = ""
    type: str = "string"
    sensitive: bool = False

    def read(self, text: str) -> Any:
        """
        The value that a text of the configuration stands for.

        :raises InvalidError: it stands for none; a sensitive text is not repeated.
        """
        try:
            return self.parse(text)
        except _RefusedError as refused:
            shown = "" if self.sensitive else f" = {text!r}"
            reason = f": {refused}" if refused.args else ""
            raise InvalidError(
                f"[{SECTION}] {self.name}{shown} is not {self.accepts}{reason}",
                f"for example: {self.example}",
            ) from None


def parse_size(text: str) -> int:
    """The bytes that ``4096``, ``512 MiB`` or ``1.5 GB`` stand for."""
    match = _SIZE.fullmatch(text)
    if match is None or (unit := _UNITS.get(match[2].lower())) is None:
        raise _RefusedError
    number = match[1]
    return int(number) * unit if number.isdecimal() else int(float(number) * unit)


def _inline_size(text: str) -> int:
    size = parse_size(text)
    if size > MIB:
        raise _RefusedError("values above 1 MiB make Airflow's database slow")
    return size


def _hours(text: str) -> float:
    try:
        hours = float(text)
    except ValueError:
        raise _RefusedError from None
    if not 0 < hours < 24 * 366 * 100:
        raise _RefusedError
    return hours


def _boolean(text: str) -> bool:
    known = {"true": True, "t": True, "1": True, "yes": True, "false": False, "f": False, "0": False, "no": False}
    try:
        return known[text.strip().lower()]
    except KeyError:
        raise _RefusedError from None


def _absolute_path(text: str) -> str:
    if not text.startswith("/") or "\0" in text:
        raise _RefusedError
    return text


def _mapping(text: str) -> str:
    if text not in ("private", "readonly"):
        raise _RefusedError
    return text


def _ray_mode(text: str) -> str:
    mode = text.strip().lower()
    if mode not in RAY_MODES:
        raise _RefusedError
    return mode


def _hours_or_none(text: str) -> float:
    return 0.0 if text.strip() in ("0", "0.0") else _hours(text)


def _name(text: str) -> str:
    if len(text.strip()) > 100 or not text.strip().isprintable():
        raise _RefusedError
    return text.strip()


def _url(text: str) -> str:
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(text)
    except ValueError:
        raise _RefusedError from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise _RefusedError
    if parts.username or parts.password:
        raise _RefusedError("it holds a user or password; use api_token")
    return text.rstrip("/")


def _agent_url(text: str) -> str:
    text = text.strip()
    scheme, found, rest = text.partition("://")
    if not found or scheme not in ("http", "https") or not rest or "@" in rest or "?" in rest or "#" in rest:
        raise _RefusedError
    if set(re.sub(r"\{\w+\}", "", rest)) & set("{} "):
        raise _RefusedError
    return text.rstrip("/")


def _agents(text: str) -> tuple[str, ...]:
    urls = tuple(_agent_url(url) for url in text.replace(",", " ").split())
    if not urls or any("{" in url for url in urls):
        raise _RefusedError
    return urls


def _token(text: str) -> str:
    token = text.strip()
    if len(token) < _KEY_CHARACTERS_MIN or not token.isascii() or not token.isprintable() or " " in token:
        raise _RefusedError
    return token


def _keys(text: str) -> tuple[bytes, ...]:
    text = text.strip()
    if text.startswith("["):
        try:
            keys = json.loads(text)
        except ValueError:
            raise _RefusedError("it begins like a JSON list but isn't one") from None
        if not all(isinstance(key, str) for key in keys):
            raise _RefusedError("the JSON list holds something else than strings")
    else:
        keys = [key.strip() for key in text.split(",")]
    if not keys or any(len(key) < _KEY_CHARACTERS_MIN for key in keys):
        raise _RefusedError(f"every key needs at least {_KEY_CHARACTERS_MIN} characters")
    return tuple(key.encode() for key in keys)


_CONNECTION_ID = re.compile(r"[\w.+/-]{1,250}", re.ASCII)
_BUCKET_SCHEMES = ("s3", "s3a", "gs", "gcs", "az", "azure", "abfs", "abfss", "wasb", "wasbs", "file")


def _bucket(text: str) -> str:
    text = text.strip()
    head, found, rest = text.partition("://")
    conn_id, at, scheme = head.rpartition("@")
    if not found:
        conn_id, at, scheme = text, "@", "s3"
    if at and _CONNECTION_ID.fullmatch(conn_id) is None:
        raise _RefusedError
    if scheme not in _BUCKET_SCHEMES or (found and not rest):
        raise _RefusedError
    authority = rest.partition("/")[0]
    if ":" in authority.rpartition("@")[0] or "?" in rest:
        raise _RefusedError("it holds a password; credentials belong into a connection")
    return text


_A_SIZE = "a size: plain bytes, or a number with KB, MB, GB, TB, KiB, MiB, GiB or TiB"
_A_BOOLEAN = "True or False"
_AN_ABSOLUTE_PATH = "an absolute path"
_HOURS = "a number of hours above 0"

SETTINGS: tuple[Setting, ...] = (
    Setting(
        "store_path",
        _absolute_path,
        _AN_ABSOLUTE_PATH,
        "The directory that holds the store's objects. Every task that exchanges values must see the same directory; "
        "it belongs to one Unix user and is made with mode 0700.",
        "/dev/shm/airfreight",  # noqa: S108
        default_text="/dev/shm/airfreight-<uid>, or a directory on disk where shared memory is too small",  # noqa: S108
    ),
    Setting(
        "capacity_bytes",
        parse_size,
        _A_SIZE,
        "The most that objects and warm segments may take together. Over it, the least recently used objects move to "
        "spill_path; where that is full as well, a task that returns a value fails and says who holds what.",
        "8 GiB",
        default_text="half of the store's file system",
    ),
    Setting(
        "spill_path",
        _absolute_path,
        _AN_ABSOLUTE_PATH,
        "Where objects go when the store is over its limit: a directory on a disk, where only Airfreight's own files "
        "are ever deleted. They are read from there without a task noticing.",
        "/var/lib/airfreight/spill",
        default_text="/var/tmp/airfreight-<uid>-spill",  # noqa: S108
    ),
    Setting(
        "spill_capacity_bytes",
        parse_size,
        _A_SIZE,
        "The most that spilled objects may take. 0 turns spilling off.",
        "100 GiB",
        default_text="half of what is free on that disk",
    ),
    Setting(
        "pool_bytes",
        parse_size,
        _A_SIZE,
        "The most that warm segments may take: files of deleted objects that are kept because writing into them is "
        "faster than into new memory. Part of capacity_bytes. 0 keeps none.",
        "2 GiB",
        default_text="a quarter of capacity_bytes",
    ),
    Setting(
        "ttl_hours",
        _hours,
        _HOURS,
        "An object expires so long after its last use, whatever still refers to it. A task that pulls it afterwards "
        "fails and says which task to clear.",
        "48",
        default="168",
        type="float",
    ),
    Setting(
        "inline_bytes_max",
        _inline_size,
        _A_SIZE + ", at most 1 MiB",
        "Values up to this encoded size stay in the XCom row, in Airflow's database: as plain JSON where that is "
        "exact, otherwise as a signed pickle. 0 puts every value but None into the store.",
        "16 KiB",
        default="4096",
    ),
    Setting(
        "allow_pickle",
        _boolean,
        _A_BOOLEAN,
        "False restricts writing and reading to Arrow, NumPy, bytes and JSON, so that reading a value never runs code.",
        "False",
        default="True",
        type="boolean",
    ),
    Setting(
        "preview",
        _boolean,
        _A_BOOLEAN,
        "Keep a description of each value (shape, types, first rows) beside it and in the XCom row, where Airflow's "
        "UI shows it. False keeps only the type's name and the size.",
        "False",
        default="True",
        type="boolean",
    ),
    Setting(
        "mapping",
        _mapping,
        "private or readonly",
        "How tasks see the memory of values that they read: 'private' values can be changed in place, and the changes "
        "stay in the task; 'readonly' values cannot be changed.",
        "readonly",
        default="private",
    ),
    Setting(
        "secret_key",
        _keys,
        f"a key of at least {_KEY_CHARACTERS_MIN} characters, or several with commas between them or as a JSON list",
        "Signs the references in XCom rows, so that nobody who may write XComs can make a task read something else. "
        "The first key signs, all of them verify: to rotate, put the new key in front and drop the old one once its "
        "values have expired. It must be the same wherever tasks run.",
        "a-long-random-text,the-one-before-it",
        default_text="a key made once in $AIRFLOW_HOME/airfreight.key",
        sensitive=True,
    ),
    Setting(
        "shared_store",
        _boolean,
        _A_BOOLEAN,
        "Set to True under the KubernetesExecutor when store_path is a hostPath volume that outlives the task's pod. "
        "Without it a value too large for its XCom row is refused there, because it would be gone with the pod.",
        "True",
        default="False",
        type="boolean",
    ),
    Setting(
        "agent_url",
        _agent_url,
        "an http:// or https:// URL; {host} in it is this host's name, {NAME} an environment variable",
        "Where tasks on other hosts find this host's `airfreight agent`. References to values that are made here carry "
        "it, and so values can be read on every host. Under Kubernetes a variable holds the node's address. Those of "
        "IPv6 get their brackets.",
        "http://{host}:8733",
        default_text="none: large values are read on the host where they were made",
    ),
    Setting(
        "agent_token",
        _token,
        f"a token of at least {_KEY_CHARACTERS_MIN} characters",
        "The token by which tasks read from agents, and which this host's agent wants to see. Agents that are reached "
        "from other hosts need one.",
        "a-long-random-text",
        default_text="none",
        sensitive=True,
    ),
    Setting(
        "agent_token_file",
        _absolute_path,
        _AN_ABSOLUTE_PATH,
        "A file with that token, in place of agent_token. Agents accept each of its lines, and read it again when it "
        "changes; tasks send the first: to rotate, put the new token in front and remove the old one later.",
        "/etc/airfreight/token",
        default_text="none",
    ),
    Setting(
        "agent_ca_file",
        _absolute_path,
        _AN_ABSOLUTE_PATH,
        "The certificates of the authorities, in PEM, that have signed those of agents with https:// URLs.",
        "/etc/airfreight/ca.pem",
        default_text="the system's authorities",
    ),
    Setting(
        "agent_certificate_file",
        _absolute_path,
        _AN_ABSOLUTE_PATH,
        "The certificate, in PEM, that tasks show to agents with --tls-client-ca.",
        "/etc/airfreight/worker.pem",
        default_text="none",
    ),
    Setting(
        "agent_key_file",
        _absolute_path,
        _AN_ABSOLUTE_PATH,
        "The key of agent_certificate_file, in PEM.",
        "/etc/airfreight/worker.key",
        default_text="none",
    ),
    Setting(
        "agents",
        _agents,
        "http:// or https:// URLs with commas between them",
        "The agents whose pages Airflow's UI shows, as its API server reaches them.",
        "http://worker-1:8733, http://worker-2:8733",
        default_text="agent_url, where it names a host; else none",
    ),
    Setting(
        "checkpoint",
        _bucket,
        "a URL (s3://, gs://, az://, abfss:// or file://), the id of a connection, or connection id@URL",
        "Where the values go of tasks that say checkpoint=True: a bucket, or a directory that outlives the host. "
        "Without a connection the credentials come from the environment or the instance.",
        "my_aws@s3://models/airfreight",
        default_text="none",
    ),
    Setting(
        "checkpoint_all",
        _boolean,
        _A_BOOLEAN,
        "True copies the large values of every task to the bucket in checkpoint, unless a task says checkpoint=False. "
        "Values that stay in their XCom rows are in Airflow's database anyway.",
        "True",
        default="False",
        type="boolean",
    ),
    Setting(
        "deployment",
        _name,
        "a name of at most 100 characters",
        "Tells this Airflow's Ray jobs from those of another Airflow that has DAGs of the same names and uses the same "
        "Ray cluster, so that neither stops the other's. It must be the same wherever tasks run.",
        "production",
        default_text="made from [api] base_url",
    ),
    Setting(
        "ray_mode",
        _ray_mode,
        "auto, warm or cold",
        "How `@task.ray` runs functions where neither task nor connection says: 'warm' by a runner that waits in the "
        "cluster, within milliseconds; 'cold' as a Ray job each; 'auto' warm where a runner can start and the task "
        "needs nothing that only a job has, else cold. The task's log says which and why.",
        "auto",
        default="cold",
    ),
    Setting(
        "ray_retention_hours",
        _hours_or_none,
        "a number of hours, or 0",
        "How long what the tasks of a DAG run have left in a Ray cluster stays there after the run has succeeded. With "
        "0 the run's last task frees it, or the next task of this Airflow on that cluster. What a failed run has left "
        "stays for ray_ttl_hours, so that its tasks can be cleared one by one.",
        "2",
        default="0",
        type="float",
    ),
    Setting(
        "ray_ttl_hours",
        _hours,
        _HOURS,
        "What the tasks of a DAG run have left in a Ray cluster goes so long after its last use, even if no Airflow "
        "asks for it any more. A task that pulls it afterwards fails and says which task to clear, unless there is a "
        "checkpoint.",
        "72",
        default="24",
        type="float",
    ),
    Setting(
        "api_url",
        _url,
        "an http:// or https:// URL without a user or password",
        "Airflow's API server, which `airflow airfreight gc` asks what still exists.",
        "http://localhost:8080",
        default_text="[api] base_url; without either, only expired objects are collected",
    ),
    Setting(
        "api_token",
        str.strip,
        "a token",
        "A token of Airflow's public API for `airflow airfreight gc`, allowed to read DAG runs and task instances.",
        "eyJhbGciOi...",
        default_text="none",
        sensitive=True,
    ),
    Setting(
        "retention_hours",
        _hours,
        _HOURS,
        "`airflow airfreight gc` keeps the objects of a DAG run for so long after the run ended.",
        "168",
        default="48",
        type="float",
    ),
)


@dataclass(frozen=True, slots=True)
class Settings:
    """The values of the ``[airfreight]`` section, checked; ``None`` where the default depends on the host."""

    store_path: str | None
    capacity_bytes: int | None
    spill_path: str | None
    spill_capacity_bytes: int | None
    pool_bytes: int | None
    ttl_hours: float
    inline_bytes_max: int
    allow_pickle: bool
    preview: bool
    mapping: str
    secret_key: tuple[bytes, ...] | None
    shared_store: bool
    agent_url: str | None
    agent_token: str | None
    agent_token_file: str | None
    agent_ca_file: str | None
    agent_certificate_file: str | None
    agent_key_file: str | None
    agents: tuple[str, ...] | None
    checkpoint: str | None
    checkpoint_all: bool
    deployment: str | None
    ray_mode: str
    ray_retention_hours: float
    ray_ttl_hours: float
    api_url: str | None
    api_token: str | None
    retention_hours: float

    def __repr__(self) -> str:
        shown = (f"{s.name}={getattr(self, s.name)!r}" for s in SETTINGS if not s.sensitive)
        return f"Settings({', '.join(shown)})"


def load_settings() -> Settings:
    """
    Read the section from Airflow's configuration.

    :raises InvalidError: a value is not acceptable; the message names it and what is.
    """
    conf = _airflow_configuration()
    values: dict[str, Any] = {}
    for setting in SETTINGS:
        text = conf.get(SECTION, setting.name, fallback=setting.default)
        if text is None or not str(text).strip():
            text = setting.default
        values[setting.name] = None if text is None else setting.read(str(text))
    return Settings(**values)


def problems() -> list[AirfreightError]:
    """Everything that is wrong with the section, for ``doctor``."""
    conf = _airflow_configuration()
    found: list[AirfreightError] = []
    for setting in SETTINGS:
        text = conf.get(SECTION, setting.name, fallback=None)
        try:
            if text is not None and str(text).strip():
                setting.read(str(text))
        except InvalidError as error:
            found.append(error)
    return found


def _airflow_configuration() -> Any:
    # Airflow 3.2 and later give tasks a configuration of their own.
    try:
        from airflow.sdk.configuration import conf
    except ImportError:
        from airflow.configuration import conf

        if _asks_for_indirection(conf):
            # Before 3.2 a task has not loaded what providers declare, and so not which options are sensitive: only
            # those may come from a command or a secrets backend.
            from airflow.providers_manager import ProvidersManager

            ProvidersManager().initialize_providers_configuration()  # type: ignore[no-untyped-call]
    return conf


def _asks_for_indirection(conf: Any) -> bool:
    names = [f"{setting.name}_{suffix}" for setting in SETTINGS if setting.sensitive for suffix in ("cmd", "secret")]
    return any(f"AIRFLOW__{SECTION}__{name}".upper() in os.environ or conf.has_option(SECTION, name) for name in names)
