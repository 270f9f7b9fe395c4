"""The hook of ``neuro-airflow-plugin``: :class:`~airfreight.hooks.apolo.ApoloHook` under its old name."""

from __future__ import annotations

from airfreight.hooks.apolo import ApoloHook


class NeuroHook(ApoloHook):
    """
    :class:`~airfreight.hooks.apolo.ApoloHook` with the connection ``neuro_default``.

    :param connection_id: the Airflow connection, of the type ``neuro``, ``apolo`` or any other.
    """

    default_conn_name = "neuro_default"
    conn_type = "neuro"
    hook_name = "Neuro"
