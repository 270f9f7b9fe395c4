"""
Writes docs/configuration.md from the declaration of the settings; ``--check`` only compares.

A test holds the page to the declaration.
"""

from __future__ import annotations

import sys
from pathlib import Path

from airfreight.settings import SECTION, SETTINGS, Setting

PAGE = Path(__file__).parents[1] / "docs" / "configuration.md"

HEAD = """\
<!-- Made by `make docs` from python/airfreight/settings.py; edit that. -->

# Configuration

One setting makes Airfreight the way in which values travel between tasks:

```ini
[core]
xcom_backend = airfreight.xcom.AirfreightXCom
```

or `AIRFLOW__CORE__XCOM_BACKEND=airfreight.xcom.AirfreightXCom` in the environment of every component. All that follows
is optional. The settings are in the section `[{section}]` of `airflow.cfg`, or in the environment as
`AIRFLOW__{upper}__<NAME>`; those marked as secret may also come from a command (`<name>_cmd`) or from a secrets backend
(`<name>_secret`), as Airflow's own do. The `airfreight` binary reads the same settings, and `AIRFREIGHT_<NAME>` before
them.

A value that is not acceptable fails the first task that needs it, with a message that names the setting and what is
accepted. `airfreight doctor` checks all of them at once. Empty means the default.

Sizes are plain bytes or a number with `KB`, `MB`, `GB`, `TB` (powers of 1000), `KiB`, `MiB`, `GiB` or `TiB` (powers of
1024).

| Setting | Default |
|---|---|
{rows}
"""


def render() -> str:
    """The whole page."""
    rows = "\n".join(f"| [`{setting.name}`](#{setting.name}) | {_default(setting)} |" for setting in SETTINGS)
    head = HEAD.format(section=SECTION, upper=SECTION.upper(), rows=rows)
    return head + "".join(_section(setting) for setting in SETTINGS)


def _default(setting: Setting) -> str:
    return f"`{setting.default}`" if setting.default is not None else setting.default_text


def _section(setting: Setting) -> str:
    secret = " Secret: never logged, never an argument of a process." if setting.sensitive else ""
    return f"""
## {setting.name}

{setting.description}{secret}

- Accepts: {setting.accepts}
- Default: {_default(setting)}
- Example: `{setting.name} = {setting.example}`
- Environment: `AIRFLOW__{SECTION.upper()}__{setting.name.upper()}`
"""


def main() -> int:
    page = render()
    if "--check" in sys.argv[1:]:
        if PAGE.read_text(encoding="utf-8") == page:
            return 0
        print(f"{PAGE.name} is not what the settings declare: run `make docs`")
        return 1
    PAGE.write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
