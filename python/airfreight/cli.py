"""
``airflow airfreight gc | stat | doctor | checkpoint``: the ``airfreight`` binary with the settings of Airflow's
configuration.

Airflow 3.2 and later find these commands through the provider's declaration; before, use the binary itself.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import sysconfig
from argparse import REMAINDER
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airfreight.errors import AirfreightError, InvalidError
from airfreight.settings import SETTINGS, load_settings, problems

if TYPE_CHECKING:
    from argparse import Namespace

_COMMANDS = {
    "gc": ("store", "gc"),
    "stat": ("store", "stat"),
    "doctor": ("doctor",),
    "checkpoint": ("checkpoint",),
}


def get_airfreight_cli_commands() -> list[Any]:
    """The commands, for Airflow's parser."""
    from airflow.cli.cli_config import ActionCommand, Arg, GroupCommand, lazy_load_command

    json_output = Arg(("--json",), action="store_true", help="Print JSON")  # type: ignore[no-untyped-call]
    dry_run = Arg(  # type: ignore[no-untyped-call]
        ("--dry-run",), action="store_true", help="Only say what would be deleted"
    )
    rest = Arg(  # type: ignore[no-untyped-call]
        ("arguments",),
        nargs=REMAINDER,
        help="ls, get or rm and their flags, as `airfreight checkpoint --help` has them",
    )
    return [
        GroupCommand(
            name="airfreight",
            help="Look after the store that values travel through",
            subcommands=[
                ActionCommand(
                    name="gc",
                    help="Delete objects that have expired or whose task instances are gone",
                    description="Asks the API server ([airfreight] api_url and api_token) what still exists; whatever "
                    "is in doubt is kept.",
                    func=lazy_load_command("airfreight.cli.gc"),
                    args=(dry_run, json_output),
                ),
                ActionCommand(
                    name="stat",
                    help="Show what the store of this host holds",
                    func=lazy_load_command("airfreight.cli.stat"),
                    args=(json_output,),
                ),
                ActionCommand(
                    name="doctor",
                    help="Check the whole set-up and say how to mend what is wrong",
                    func=lazy_load_command("airfreight.cli.doctor"),
                    args=(json_output,),
                ),
                ActionCommand(
                    name="checkpoint",
                    help="List, fetch and delete copies of values in the bucket",
                    description="The bucket may be named by a connection of Airflow's here.",
                    func=lazy_load_command("airfreight.cli.checkpoint"),
                    args=(rest,),
                ),
            ],
        )
    ]


def gc(args: Namespace) -> None:
    """``airflow airfreight gc``"""
    _run("gc", _flags(args))


def stat(args: Namespace) -> None:
    """``airflow airfreight stat``"""
    _run("stat", _flags(args))


def doctor(args: Namespace) -> None:
    """``airflow airfreight doctor``"""
    _run("doctor", _flags(args))


def checkpoint(args: Namespace) -> None:
    """``airflow airfreight checkpoint``"""
    arguments = [each for each in args.arguments if each != "--"]
    try:
        access = _access(arguments)
    except AirfreightError as error:
        sys.exit(f"error: {error}")
    _run("checkpoint", arguments, access)


def _access(arguments: list[str]) -> dict[str, str]:
    """The bucket and its credentials as a variable, since other users of the host can read a process's arguments."""
    from airfreight.checkpoint import place

    at = arguments.index("--bucket") + 1 if "--bucket" in arguments else len(arguments)
    where = arguments[at] if at < len(arguments) else load_settings().checkpoint
    if where is None:
        return {}
    access = place.access(*place.split(where))
    return {"AIRFREIGHT_CHECKPOINT_ACCESS": json.dumps(access._asdict())}


def _flags(args: Namespace) -> list[str]:
    known = (("--dry-run", "dry_run"), ("--json", "json"))
    return [flag for flag, name in known if getattr(args, name, False)]


def _run(command: str, flags: list[str], variables: dict[str, str] | None = None) -> None:
    try:
        binary = find_binary()
        # What is wrong with the settings, doctor finds out by itself.
        env = dict(os.environ) if command == "doctor" and problems() else environment()
    except AirfreightError as error:
        sys.exit(f"error: {error}")
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(binary, [str(binary), *_COMMANDS[command], *flags], env | (variables or {}))  # noqa: S606


def find_binary() -> Path:
    """
    The ``airfreight`` binary, which the wheel puts beside the interpreter.

    :raises InvalidError: it is not there.
    """
    beside = Path(sysconfig.get_path("scripts")) / "airfreight"
    if beside.is_file():
        return beside
    if found := shutil.which("airfreight"):
        return Path(found)
    raise InvalidError(
        f"the airfreight binary is neither in {beside.parent} nor on PATH",
        "install the wheel again, or add the directory of the binary to PATH",
    )


def environment() -> dict[str, str]:
    """
    The environment for the binary: each setting as ``AIRFREIGHT_<NAME>``, so that no secret is an argument.

    Settings that Airflow takes from a command or a secrets backend are resolved here; the binary can't.
    """
    from airfreight._store import key_fingerprint
    from airfreight.keys import load_keys

    settings = load_settings()
    environment = dict(os.environ)
    for setting in SETTINGS:
        value = getattr(settings, setting.name)
        if value is None or setting.name == "secret_key":
            continue
        environment[f"AIRFREIGHT_{setting.name.upper()}"] = str(value)
    environment["AIRFREIGHT_DEPLOYMENT"] = ",".join(key_fingerprint(key) for key in load_keys(settings))
    if settings.api_url is None and (base_url := _base_url()):
        environment["AIRFREIGHT_API_URL"] = base_url
    return environment


def _base_url() -> str | None:
    from airflow.configuration import conf

    url = conf.get("api", "base_url", fallback=None)
    return str(url).rstrip("/") if url else None
