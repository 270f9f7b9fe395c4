"""The hook for Apolo (formerly neu.ro): what an Airflow connection of the type ``apolo`` gives."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

try:
    from airflow.sdk import BaseHook
except ImportError:  # Airflow 3.0
    from airflow.hooks.base import BaseHook  # type: ignore[attr-defined,no-redef,unused-ignore]

from airfreight.apolo import connection as connections
from airfreight.errors import AirfreightError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterator

    from airfreight._remote import ApoloClient
    from airfreight.apolo.connection import ApoloConnection
    from airfreight.apolo.sdk import Session


class ApoloHook(BaseHook):
    """
    Reaches the platform: its jobs without its SDK, and all of it with the SDK (``airfreight[apolo]``).

    .. code-block:: python

        with ApoloHook() as hook:
            status = hook.run(hook.client.storage.stat(hook.parse.str_to_uri("storage:data.csv")))

    :param connection_id: the Airflow connection, of the type ``apolo``, ``neuro`` or any other.
    :param debug: taken for the sake of DAGs written for ``neuro-airflow-plugin``; without effect.
    """

    conn_name_attr = "connection_id"
    default_conn_name = "apolo_default"
    conn_type = "apolo"
    hook_name = "Apolo"

    def __init__(self, connection_id: str | None = None, *, debug: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.connection_id = connection_id or self.default_conn_name
        self.debug = debug
        self._session: Session | None = None

    @classmethod
    async def acreate(cls, connection_id: str | None = None) -> Self:
        """A hook that has read its connection without blocking; for triggers (Airflow 3.1 and later)."""
        from airfreight.ray import supervisor

        hook = cls(connection_id)
        found = await cls.aget_connection(hook.connection_id)
        # Fills the cached property.
        hook.connection = connections.read(found, hook.connection_id)
        await supervisor.mask(hook.connection.secrets())
        return hook

    @cached_property
    def connection(self) -> ApoloConnection:
        """
        What the Airflow connection says.

        :raises InvalidError: a field has no meaning.
        """
        connection = connections.read(self.get_connection(self.connection_id), self.connection_id)
        connections.mask(connection)
        return connection

    def get_conn(self) -> ApoloClient:
        """A client of the platform's jobs, which needs no SDK."""
        return self.connection.client()

    def test_connection(self) -> tuple[bool, str]:
        """Ask the platform what the token opens; Airflow's test button."""
        try:
            client = self.get_conn()
            place = client.place()
            client.jobs(limit=1)
        except AirfreightError as error:
            return False, " ".join(str(error).split())
        where = "/".join(str(part) for part in place.values() if part)
        return True, f"Apolo answers at {client.api_url}; jobs run in {where}"

    # The platform's SDK.

    def login(self) -> None:
        """
        Log in with the SDK; ``with hook:`` does so, and closes it again.

        :raises InvalidError: the SDK is not installed.
        """
        from airfreight.apolo.sdk import Session

        if self._session is None:
            self._session = Session(self.connection)

    def close(self) -> None:
        """Log out; what the SDK has written to the disk goes."""
        session, self._session = self._session, None
        if session is not None:
            session.close()

    def __enter__(self) -> Self:
        self.login()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def ensure_client(self) -> Any:
        """
        The SDK's client.

        :raises RuntimeError: nobody has logged in.
        """
        return self._open().client

    @property
    def client(self) -> Any:
        """The SDK's client: ``apolo_sdk.Client``."""
        return self.ensure_client()

    @property
    def config(self) -> Any:
        """The SDK's configuration: clusters, presets, the current project."""
        return self.client.config

    @property
    def parse(self) -> Any:
        """The SDK's parser of URIs, volumes and images."""
        return self.client.parse

    @property
    def config_path(self) -> str:
        """The folder in which the SDK keeps what it needs while the hook is open."""
        return self._open().path

    def run(self, coroutine: Awaitable[Any]) -> Any:
        """Run something of the SDK's to its end, and answer its result."""
        return self._open().run(coroutine)

    def run_iter(self, items: Any) -> Iterator[Any]:
        """The items of something asynchronous of the SDK's, such as ``client.storage.list(uri)``, one by one."""
        return self._open().run_iter(items)

    def _open(self) -> Session:
        if self._session is None:
            raise RuntimeError(f"You have to `login()` before, or write `with {type(self).__name__}() as hook:`")
        return self._session

    # Airflow 3.0 and 3.1 take the form from here, later ones from the provider info.

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Which of the standard fields the connection form shows, and under which names."""
        from airfreight.apolo.form import HIDDEN, LABELS, PLACEHOLDERS

        return {"hidden_fields": HIDDEN, "relabeling": LABELS, "placeholders": PLACEHOLDERS}

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """The connection form's own fields."""
        from airfreight.apolo.form import FIELDS
        from airfreight.ray.form import widgets

        return widgets(FIELDS)
