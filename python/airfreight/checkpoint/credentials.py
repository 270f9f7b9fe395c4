"""
Airflow connections as options of a bucket, spelled as the providers spell them; none of these need be installed.

What a connection asks for and this release can't do is an error, never left out silently.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from airfreight.errors import InvalidError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_SCHEMES = {
    "s3": "s3",
    "s3a": "s3",
    "gs": "gs",
    "gcs": "gs",
    "az": "az",
    "azure": "az",
    "abfs": "az",
    "abfss": "az",
    "wasb": "az",
    "wasbs": "az",
    "file": "file",
}

#: The usual names of a bucket among a connection's extras.
_BUCKET_NAMES = ("bucket_name", "bucket", "container_name", "container")


class Found(NamedTuple):
    """
    What a connection says.

    :param options: in the words of the Rust crate ``object_store``; they hold secrets.
    :param environment: whether variables and the instance's own role fill in what the connection leaves open.
    :param url: the bucket, where the connection names one.
    """

    conn_type: str
    scheme: str
    options: dict[str, str]
    environment: bool
    verify: bool | str = True
    proxy: str | None = None
    url: str | None = None

    def __repr__(self) -> str:
        return f"Found(conn_type={self.conn_type!r}, scheme={self.scheme!r}, options={sorted(self.options)})"


def scheme_of(url: str) -> str:
    """The kind of storage of a URL, in the spelling that all its others stand for."""
    scheme = url.partition("://")[0]
    return _SCHEMES.get(scheme, scheme)


def of_connection(conn_id: str) -> Found:
    """
    What an Airflow connection says about a storage.

    :raises InvalidError: it is of another type, or asks for what isn't supported.
    """
    connection = _get_connection(conn_id)
    extra = _extra(connection, conn_id)
    conn_type = str(connection.conn_type or "").lower()
    readers: dict[str, Callable[[str, Any, Mapping[str, Any]], Found]] = {
        "aws": _aws,
        "s3": _aws,
        "google_cloud_platform": _google,
        "wasb": _azure,
        "adls": _azure,
        "azure_data_lake": _azure,
    }
    reader = readers.get(conn_type)
    if reader is None:
        raise InvalidError(
            f"connection `{conn_id}` is of the type {conn_type or 'none'}, which names no storage for checkpoints",
            "use a connection of the type aws, google_cloud_platform, wasb or adls",
        )
    found = reader(conn_id, connection, extra)
    service = extra.get("service_config")
    service = (service.get("s3") or {}) if isinstance(service, dict) else {}
    names = (*(extra.get(name) for name in _BUCKET_NAMES), service.get("bucket_name"))
    name = next((str(name) for name in names if name), None)
    if name is None:
        return found
    prefix = str(extra.get("prefix") or "").strip("/")
    return found._replace(url=f"{found.scheme}://{name}" + (f"/{prefix}" if prefix else ""))


def _aws(conn_id: str, connection: Any, extra: Mapping[str, Any]) -> Found:
    _refuse(
        conn_id,
        extra,
        {
            "profile_name": "profiles of ~/.aws",
            "assume_role_method": "assuming a role",
            "assume_role_kwargs": "assuming a role",
            "credential_source": "credential sources",
        },
    )
    if extra.get("role_arn"):
        raise _unsupported(conn_id, "role_arn", "assuming a role")
    service = extra.get("service_config")
    service = (service.get("s3") or {}) if isinstance(service, dict) else {}
    options = _present(
        aws_access_key_id=connection.login or extra.get("aws_access_key_id"),
        aws_secret_access_key=connection.password or extra.get("aws_secret_access_key"),
        aws_session_token=extra.get("aws_session_token"),
        aws_region=extra.get("region_name") or extra.get("region"),
        aws_endpoint=service.get("endpoint_url") or extra.get("endpoint_url") or extra.get("host"),
    )
    config = extra.get("config_kwargs")
    config = config if isinstance(config, dict) else {}
    proxies = config.get("proxies")
    return Found(
        "aws",
        "s3",
        options,
        # Keys of the connection must not meet a session token of the environment.
        environment="aws_access_key_id" not in options,
        verify=_verify(service.get("verify", extra.get("verify"))),
        proxy=next(iter(proxies.values()), None) if isinstance(proxies, dict) else None,
    )


def _google(conn_id: str, _: Any, extra: Mapping[str, Any]) -> Found:
    extra = {name.removeprefix("extra__google_cloud_platform__"): value for name, value in extra.items()}
    _refuse(
        conn_id,
        extra,
        {
            "key_secret_name": "keys from a secret manager",
            "impersonation_chain": "impersonation",
            "credential_config_file": "workload identity federation",
            "is_anonymous": "reading anonymously",
            "idp_issuer_url": "other identity providers",
        },
    )
    key = extra.get("keyfile_dict")
    options = _present(
        google_service_account_key=json.dumps(key) if isinstance(key, dict) else key,
        google_service_account=None if key else extra.get("key_path") or extra.get("keyfile_path"),
    )
    return Found("google_cloud_platform", "gs", options, environment=not options)


def _azure(conn_id: str, connection: Any, extra: Mapping[str, Any]) -> Found:
    extra = {name.removeprefix("extra__wasb__").removeprefix("extra__adls__"): value for name, value in extra.items()}
    _refuse(conn_id, extra, {"workload_identity_tenant_id": "workload identity", "client_secret_auth_config": "that"})
    if text := extra.get("connection_string") or extra.get("connection_str"):
        parts = dict(part.split("=", 1) for part in str(text).split(";") if "=" in part)
        options = _present(
            azure_storage_account_name=parts.get("AccountName"),
            azure_storage_account_key=parts.get("AccountKey"),
            azure_storage_sas_key=parts.get("SharedAccessSignature"),
            azure_storage_endpoint=parts.get("BlobEndpoint"),
        )
        return Found("wasb", "az", options, environment=False)
    host = str(connection.host or extra.get("account_url") or "")
    named = host.partition("://")[2] or host
    account = named.partition(".")[0] or extra.get("account_name")
    tenant = extra.get("tenant_id") or extra.get("tenant")
    sas, key = extra.get("sas_token"), extra.get("shared_access_key")
    if tenant:
        options = _present(
            azure_storage_account_name=account,
            azure_storage_client_id=connection.login,
            azure_storage_client_secret=connection.password,
            azure_storage_tenant_id=tenant,
        )
    else:
        options = _present(
            azure_storage_account_name=connection.login or account,
            azure_storage_account_key=None if sas else key or connection.password,
            azure_storage_sas_key=str(sas).partition("?")[2] or sas if sas else None,
        )
    secrets = {"azure_storage_account_key", "azure_storage_sas_key", "azure_storage_client_secret"}
    return Found("wasb", "az", options, environment=not secrets & options.keys())


def _present(**options: Any) -> dict[str, str]:
    return {name: str(value) for name, value in options.items() if value}


def _verify(value: Any) -> bool | str:
    if value is None or value == "":
        return True
    text = str(value).strip()
    return text.lower() == "true" if text.lower() in ("true", "false") else text


def _refuse(conn_id: str, extra: Mapping[str, Any], unsupported: Mapping[str, str]) -> None:
    for name, what in unsupported.items():
        if extra.get(name):
            raise _unsupported(conn_id, name, what)


def _unsupported(conn_id: str, name: str, what: str) -> InvalidError:
    return InvalidError(
        f"connection `{conn_id}` has the extra `{name}`: checkpoints do not support {what}",
        "use a connection with keys of its own, or one without any where the environment or the instance has them",
    )


def _extra(connection: Any, conn_id: str) -> dict[str, Any]:
    try:
        extra = json.loads(connection.extra or "{}")
    except ValueError:
        extra = None
    if not isinstance(extra, dict):
        raise InvalidError(f"the extra of connection `{conn_id}` is not a JSON object")
    return extra


def _get_connection(conn_id: str) -> Any:
    from airflow.sdk.bases.hook import BaseHook

    return BaseHook.get_connection(conn_id)
