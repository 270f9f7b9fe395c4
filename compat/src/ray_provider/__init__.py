"""
The package that ``astro-provider-ray`` and ``airflow-provider-ray`` had, served by Airfreight.

Both layouts are here. Nothing is imported before a name is used, and each name warns once where it is to be found now.
"""

from __future__ import annotations

from typing import Any

#: Whose files these may have replaced.
_BEFORE = ("astro-provider-ray", "airflow-provider-ray")


def get_provider_info() -> dict[str, Any]:
    """
    Keep Airflow alive where one of the old distributions is still installed.

    Its entry point leads here then, and Airflow ends each of its processes if that fails or if the name is another.
    """
    import warnings
    from importlib.metadata import PackageNotFoundError, distribution

    for name in _BEFORE:
        try:
            distribution(name)
        except PackageNotFoundError:
            continue
        warnings.warn(
            f"{name} is installed beside airfreight-ray-provider, which has replaced its files: uninstall {name}, then "
            "reinstall airfreight-ray-provider",
            UserWarning,
            stacklevel=2,
        )
        return {"package-name": name, "name": "Ray", "description": "Replaced by Airfreight."}
    raise LookupError("neither astro-provider-ray nor airflow-provider-ray is installed")
