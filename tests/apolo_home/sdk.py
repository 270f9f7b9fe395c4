"""
What the SDK posts for jobs: runs in the SDK's environment, with specifications as JSON on its standard input.

The SDK is used as its documentation says and not modified; what it has posted is asked of the double.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import urllib.request
from pathlib import Path
from typing import Any

import apolo_sdk
from yarl import URL


async def post(client: apolo_sdk.Client, spec: dict[str, Any]) -> None:
    volumes = client.parse.volumes(spec.get("volumes", []))
    env = client.parse.envs([f"{name}={value}" for name, value in spec.get("env", {}).items()])
    secret_env = {name: client.parse.str_to_uri(uri) for name, uri in spec.get("secret_env", {}).items()}
    port = spec.get("http_port")
    container: dict[str, Any] = {
        "image": client.parse.remote_image(spec["image"]),
        "command": spec.get("command"),
        "entrypoint": spec.get("entrypoint"),
        "working_dir": spec.get("working_dir"),
        "http": apolo_sdk.HTTPPort(port, spec.get("http_auth", True)) if port else None,
        "env": env.env,
        "secret_env": {**env.secret_env, **secret_env},
        "volumes": volumes.volumes,
        "secret_files": volumes.secret_files,
        "disk_volumes": volumes.disk_volumes,
        "tty": spec.get("tty", False),
    }
    about: dict[str, Any] = {
        "name": spec.get("name"),
        "tags": spec.get("tags", []),
        "description": spec.get("description"),
        "pass_config": spec.get("pass_config", False),
        "wait_for_jobs_quota": spec.get("wait_for_quota", False),
        "schedule_timeout": spec.get("schedule_timeout"),
        "restart_policy": apolo_sdk.JobRestartPolicy(spec.get("restart_policy", "never")),
        "life_span": spec.get("life_span"),
        "priority": apolo_sdk.JobPriority[spec["priority"].upper()] if "priority" in spec else None,
    }
    if "preset" in spec:
        await client.jobs.start(preset_name=spec["preset"], shm=spec.get("shm", False), **container, **about)
        return
    resources = dict(spec["resources"])
    if tpu := resources.pop("tpu", None):
        resources.update(tpu_type=tpu["type"], tpu_software_version=tpu["software_version"])
    whole = apolo_sdk.Container(resources=apolo_sdk.Resources(**resources), **container)
    await client.jobs.run(whole, scheduler_enabled=spec.get("scheduler_enabled", False), **about)


async def main(url: str, token: str, place: dict[str, str]) -> None:
    def control(method: str, path: str) -> Any:
        with urllib.request.urlopen(urllib.request.Request(f"{url}/_fake/{path}", method=method)) as answer:
            return json.loads(answer.read())

    with tempfile.TemporaryDirectory() as folder:
        factory = apolo_sdk.Factory(path=Path(folder) / "config")
        await factory.login_with_token(token, url=URL(f"{url}/api/v1"))
        async with await factory.get() as client:
            if place:
                await client.config.switch_cluster(place["cluster"])
                await client.config.switch_org(place["org"])
                await client.config.switch_project(place["project"])
            for spec in json.loads(sys.stdin.read()):
                control("POST", "reset")
                error = None
                try:
                    await post(client, spec)
                except Exception as refused:
                    error = f"{type(refused).__name__}: {refused}"
                posted = [each for each in control("GET", "requests") if each["method"] == "POST"]
                print(
                    json.dumps(
                        {"path": posted[0]["path"], "body": posted[0]["body"]} if posted else {"refused": error}
                    ),
                    flush=True,
                )


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3])))
