"""The extra of an Airflow connection, read with care: what has no meaning is refused by name."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from airfreight.errors import InvalidError

_TRUE = {"true", "1", "yes", "on"}
_FALSE = {"false", "0", "no", "off"}


class Extra:
    """
    A connection's ``extra``, field by field; a field left empty in a form is absent.

    :param connection: Airflow's.
    :param conn_id: its name, for messages.
    :param kind: its type, for fields as connections made under Airflow 2 may spell them.
    """

    def __init__(self, connection: Any, conn_id: str, kind: str) -> None:
        self._conn_id = conn_id
        self._kind = kind
        text = getattr(connection, "extra", None) or ""
        try:
            fields = json.loads(text) if text.strip() else {}
        except ValueError:
            raise InvalidError(
                f"the extra of connection `{conn_id}` is not JSON", "write it as a JSON object, or leave it empty"
            ) from None
        if not isinstance(fields, dict):
            raise InvalidError(
                f"the extra of connection `{conn_id}` is not a JSON object",
                'for example: {"verify": true}',
            )
        self._fields: dict[str, Any] = fields

    def get(self, name: str) -> Any:
        value = self._fields.get(name)
        if value in (None, ""):
            # How connections made under Airflow 2 may spell it.
            value = self._fields.get(f"extra__{self._kind}__{name}")
        return None if value in (None, "") else value

    def text(self, name: str) -> str | None:
        value = self.get(name)
        if value is None or isinstance(value, str):
            return value.strip() or None if value else None
        raise self.refuse(name, "a text")

    def number(self, name: str, default: float, *, zero: bool = False) -> float:
        value = self.get(name)
        if value is None:
            return default
        with suppress(TypeError, ValueError):
            number = float(value)
            if number > 0 or (zero and number == 0):
                return number
        raise self.refuse(name, "a number of seconds" if zero else "a number of seconds above 0")

    def boolean(self, name: str, *, default: bool) -> bool:
        value = self.get(name)
        if value is None:
            return default
        if isinstance(value, bool):
            return value
        known = str(value).strip().lower()
        if known in _TRUE | _FALSE:
            return known in _TRUE
        raise self.refuse(name, "true or false")

    def verify(self) -> bool | str:
        value = self.get("verify")
        if isinstance(value, str) and value.strip().lower() not in _TRUE | _FALSE:
            return value.strip()
        return self.boolean("verify", default=True)

    def mapping(self, name: str) -> dict[str, Any]:
        value = self.get(name)
        if isinstance(value, str):
            with suppress(ValueError):
                value = json.loads(value)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise self.refuse(name, "a JSON object")
        return value

    def texts(self, name: str) -> dict[str, str]:
        mapping = self.mapping(name)
        if any(isinstance(value, dict | list) for value in mapping.values()):
            raise self.refuse(name, "a JSON object of texts")
        return {str(key): value if isinstance(value, str) else json.dumps(value) for key, value in mapping.items()}

    def refuse(self, name: str, wanted: str) -> InvalidError:
        # The value isn't repeated: it may be a secret.
        return InvalidError(f"{name} in the extra of connection `{self._conn_id}` is not {wanted}")
