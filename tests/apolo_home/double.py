"""
A double of the Apolo platform: API, monitoring and storage in one server.

It is written from the platform's REST contract, and runs in the SDK's environment, which has aiohttp. Without more, a
job's command is really executed, as a process of this host. A command ``plan [...]`` is played instead, step by step:
``{"sleep": s}``, ``{"log": text}``, ``{"status": …, "reason": …, "description": …, "exit_code": …}``, ``{"hang_logs":
true}`` (the log never ends), ``{"cut_logs": n}`` (each connection to the log is cut after so many bytes, the next one
later), ``{"chunk": n}`` (the log comes in pieces of so many bytes).
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import re
import shlex
import signal
import ssl
import sys
import tempfile
import uuid
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from aiohttp import WSMsgType, web

UTC = timezone.utc  # noqa: UP017 - as the SDK's environment may have it
OVER = {"succeeded", "failed", "cancelled"}
NAME = re.compile(r"[a-z](?:-?[a-z0-9])*")
CONTAINER_KEYS = {
    "image", "command", "entrypoint", "env", "http", "volumes", "secret_env", "secret_volumes", "disk_volumes",
    "working_dir", "tty", "resources",
}  # fmt: skip
RESOURCES = {
    "cpu", "memory", "shm", "tpu", "nvidia_gpu", "nvidia_gpu_model", "amd_gpu", "amd_gpu_model", "intel_gpu",
    "intel_gpu_model",
}  # fmt: skip


def _part(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


#: A JWT that nobody has signed: the SDK reads the user's name out of it.
TOKEN = ".".join(map(_part, (b'{"alg":"HS256"}', b'{"identity":"tester"}', b"signature")))


@dataclass
class Job:
    id: str
    body: dict[str, Any]
    container: dict[str, Any]
    created: datetime
    status: str = "pending"
    statuses: list[dict[str, Any]] = field(default_factory=list)
    #: Time in microseconds and text of each line.
    log: list[tuple[int, bytes]] = field(default_factory=list)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    process: asyncio.subprocess.Process | None = None
    task: asyncio.Task[None] | None = None
    hang_logs: bool = False
    cut_logs: int | None = None
    chunk: int | None = None

    def describe(self, base: str) -> dict[str, Any]:
        last = self.statuses[-1]
        history = {
            "status": self.status,
            "reason": last["reason"] or None,
            "description": last["description"] or None,
            "created_at": self.created.isoformat(),
            "run_time_seconds": 0,
            "restarts": 0,
        }
        if "exit_code" in last:
            history["exit_code"] = last["exit_code"]
        for each in self.statuses:
            if each["status"] == "running":
                history.setdefault("started_at", each["transition_time"])
            if each["status"] in OVER:
                history["finished_at"] = each["transition_time"]
        body = self.body
        found = {
            "id": self.id,
            "owner": "tester",
            "cluster_name": body["cluster_name"],
            "org_name": body.get("org_name"),
            "project_name": body["project_name"],
            "uri": f"job://{body['cluster_name']}/{body.get('org_name')}/{body['project_name']}/{self.id}",
            "status": self.status,
            "statuses": self.statuses,
            "history": history,
            "container": self.container,
            "scheduler_enabled": body.get("scheduler_enabled", False),
            "preemptible_node": False,
            "pass_config": body.get("pass_config", False),
            "total_price_credits": "0",
            "price_credits_per_hour": "1",
            "materialized": self.status in OVER,
            "being_dropped": False,
            "logs_removed": False,
            "restart_policy": body.get("restart_policy", "never"),
            "internal_hostname": f"{self.id}.jobs",
        }
        for key in ("name", "description", "tags", "preset_name", "max_run_time_minutes", "schedule_timeout"):
            if key in body:
                found[key] = body[key]
        if "http" in self.container:
            found["http_url"] = f"{base}/http/{self.id}"
            if "name" in body:
                found["http_url_named"] = f"{base}/http/{body['name']}--tester"
        return found

    async def become(self, status: str, **more: Any) -> None:
        if self.status in OVER and self.statuses:
            return
        async with self.changed:
            self.status = status
            entry = {
                "status": status,
                "transition_time": datetime.now(UTC).isoformat(),
                "reason": "",
                "description": "",
            }
            entry.update({key: value for key, value in more.items() if value is not None})
            self.statuses.append(entry)
            self.changed.notify_all()

    async def say(self, line: bytes) -> None:
        async with self.changed:
            now = int(datetime.now(UTC).timestamp() * 1_000_000)
            self.log.append((now, line))
            self.changed.notify_all()


class Refused(Exception):
    def __init__(self, status: int, **body: Any) -> None:
        super().__init__(body)
        self.status = status
        self.body = body


class Double:
    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self.faults: list[dict[str, Any]] = []
        self.requests: list[dict[str, Any]] = []
        self.files: dict[str, bytes] = {}
        self.base = ""
        #: Where jobs run.
        self.folder = tempfile.TemporaryDirectory(prefix="airfreight-apolo-jobs-")

    def app(self) -> web.Application:
        app = web.Application(middlewares=[self.meddle], client_max_size=64 << 20)
        add = app.router.add_route
        add("GET", "/api/v1/ping", self.ping)
        add("GET", "/api/v1/config", self.config)
        add("POST", "/api/v1/jobs", self.create)
        add("GET", "/api/v1/jobs", self.list)
        add("GET", "/api/v1/jobs/{id}", self.show)
        add("DELETE", "/api/v1/jobs/{id}", self.kill)
        add("GET", "/mon/{id}/log_ws", self.log_ws)
        add("GET", "/mon/{id}/log", self.log_chunks)
        add("*", "/sto/{path:.*}", self.storage)
        add("POST", "/_fake/faults", self.add_fault)
        add("POST", "/_fake/reset", self.reset)
        add("GET", "/_fake/requests", self.show_requests)
        add("GET", "/_fake/jobs", self.show_jobs)
        add("POST", "/_fake/jobs/{id}/end", self.end_job)
        return app

    # What goes wrong.

    @web.middleware
    async def meddle(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if request.path.startswith("/_fake/"):
            return await handler(request)
        body = await request.text() if request.method == "POST" else ""
        self.requests.append(
            {
                "method": request.method,
                "path": request.path_qs,
                "headers": {key: value for key, value in request.headers.items() if key != "Authorization"},
                "body": json.loads(body) if body[:1] in ("{", "[") else None,
            }
        )
        fault = next((each for each in self.faults if self._hits(each, request)), None)
        if fault is not None:
            if fault["times"] is not None:
                fault["times"] -= 1
            if fault["kind"] == "delay":
                await asyncio.sleep(fault["seconds"])
            elif fault["kind"] == "status":
                return web.Response(
                    status=fault["status"], text=fault.get("text", ""), headers=fault.get("headers"),
                    content_type="application/json" if fault.get("text", "").startswith("{") else "text/html",
                )  # fmt: skip
            elif fault["kind"] in ("drop", "lose"):
                if fault["kind"] == "lose":
                    await self._handled(request, handler)
                if request.transport is not None:
                    request.transport.abort()
                raise asyncio.CancelledError
        return await self._handled(request, handler)

    def _hits(self, fault: dict[str, Any], request: web.Request) -> bool:
        return bool(
            (fault["times"] is None or fault["times"] > 0)
            and fault["method"] in ("", request.method)
            and fault["part"] in request.path_qs
        )

    async def _handled(self, request: web.Request, handler: Any) -> web.StreamResponse:
        is_config = request.path == "/api/v1/config"
        if not is_config and request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return web.json_response({"error": "unauthorized"}, status=401)
        try:
            return await handler(request)
        except Refused as refused:
            return web.json_response(refused.body, status=refused.status)

    # The API.

    async def ping(self, request: web.Request) -> web.Response:
        return web.Response(text="Pong")

    async def config(self, request: web.Request) -> web.Response:
        public = {
            "auth_url": f"{self.base}/auth",
            "token_url": f"{self.base}/token",
            "logout_url": f"{self.base}/logout",
            "client_id": "client",
            "audience": "audience",
            "headless_callback_url": f"{self.base}/headless",
            "callback_urls": ["http://127.0.0.1:54540"],
            "admin_url": f"{self.base}/admin",
            "success_redirect_url": f"{self.base}/done",
        }
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return web.json_response({**public, "authorized": False})
        clusters = [self._cluster("main", ["org", "other-org"]), self._cluster("second", ["org"])]
        projects = [
            ("proj", "main", "org"),
            ("side", "main", "org"),
            ("far", "main", "other-org"),
            ("p2", "second", "org"),
        ]
        return web.json_response(
            {
                **public,
                "authorized": True,
                "clusters": clusters,
                "projects": [
                    {"name": name, "cluster_name": cluster, "org_name": org, "role": "manager"}
                    for name, cluster, org in projects
                ],
            }
        )

    def _cluster(self, name: str, orgs: list[str]) -> dict[str, Any]:
        small = {"credits_per_hour": "1", "cpu": 1.0, "memory": 1 << 30}
        presets = {
            "cpu-small": small,
            "cpu-large": {**small, "cpu": 8.0, "memory": 32 << 30},
            "gpu-small": {**small, "nvidia_gpu": {"count": 1, "model": "nvidia-a100"}},
            "spot": {**small, "scheduler_enabled": True, "preemptible_node": True},
        }
        return {
            "name": name,
            "orgs": orgs,
            "registry_url": f"https://registry.{name}.org.neu.ro",
            "storage_url": f"{self.base}/sto",
            "monitoring_url": f"{self.base}/mon",
            "secrets_url": f"{self.base}/secrets",
            "disks_url": f"{self.base}/disks",
            "buckets_url": f"{self.base}/buckets",
            "users_url": f"{self.base}/users",
            "blob_storage_url": f"{self.base}/blob",
            "resource_pool_types": [],
            "resource_presets": [{"name": preset, **of} for preset, of in presets.items()],
        }

    async def create(self, request: web.Request) -> web.Response:
        body = await request.json()
        if "from_preset" in request.query:
            container = {key: body.pop(key) for key in list(body) if key in CONTAINER_KEYS}
            if body.get("preset_name") not in ("cpu-small", "cpu-large", "gpu-small", "spot"):
                raise Refused(400, error=f"Preset {body.get('preset_name')} was not found")
            container["resources"] = {"cpu": 1.0, "memory": 1 << 30, "shm": False, **container.get("resources", {})}
        else:
            container = body.pop("container", None)
        if not container or not container.get("image"):
            raise Refused(400, error="{'container': DataError(is required)}")
        if unknown := set(container) - CONTAINER_KEYS | set(container["resources"]) - RESOURCES:
            raise Refused(400, error=f"{{'{min(unknown)}': DataError({min(unknown)} is not allowed key)}}")
        name = body.get("name")
        if name is not None and not (3 <= len(name) <= 40 and NAME.fullmatch(name) and not name.startswith("job-")):
            raise Refused(400, error="{'name': DataError(does not match pattern)}")
        live = [job for job in self.jobs.values() if job.status not in OVER]
        if name is not None and any(job.body.get("name") == name for job in live):
            raise Refused(400, error=f"Failed to create job: job with name '{name}' and owner 'tester' already exists")
        minutes = body.get("max_run_time_minutes")
        if minutes is not None and minutes < 1:
            raise Refused(400, error="{'max_run_time_minutes': DataError(value is less than 1)}")
        tags = body.get("tags", [])
        if len(tags) > 16 or any(not tag or " " in tag or len(tag) > 256 for tag in tags):
            raise Refused(400, error="{'tags': DataError(bad)}")
        job = Job(f"job-{uuid.uuid4()}", body, container, datetime.now(UTC))
        await job.become("pending", reason="Creating")
        self.jobs[job.id] = job
        job.task = asyncio.create_task(self.run(job))
        return web.json_response(job.describe(self.base), status=202)

    async def list(self, request: web.Request) -> web.StreamResponse:
        query = request.query
        found = []
        for job in self.jobs.values():
            told = job.describe(self.base)
            if not set(query.getall("tag", [])) <= set(job.body.get("tags", [])):
                continue
            for key in ("status", "name", "cluster_name", "org_name", "project_name", "owner"):
                if (wanted := query.getall(key, [])) and told.get(key) not in wanted:
                    break
            else:
                found.append(told)
        if query.get("reverse"):
            found.reverse()
        found = found[: int(query.get("limit", len(found)))]
        if "application/x-ndjson" not in request.headers.get("Accept", ""):
            return web.json_response({"jobs": found})
        lines = "".join(f"{json.dumps(each)}\n" for each in found)
        return web.Response(text=lines, content_type="application/x-ndjson")

    async def show(self, request: web.Request) -> web.Response:
        return web.json_response(self._job(request).describe(self.base))

    async def kill(self, request: web.Request) -> web.Response:
        await self._end(self._job(request, by_name=False), "cancelled", reason="UserRequested")
        return web.Response(status=204)

    def _job(self, request: web.Request, *, by_name: bool = True) -> Job:
        wanted = request.match_info["id"]
        for job in reversed(self.jobs.values()):
            if wanted == job.id or (by_name and wanted == job.body.get("name")):
                return job
        raise Refused(400, error=f"no such job {wanted}")

    async def _end(self, job: Job, status: str, **more: Any) -> None:
        await job.become(status, **more)
        if job.process is not None and job.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(job.process.pid, signal.SIGKILL)
        elif job.task is not None:
            job.task.cancel()

    # Jobs.

    async def run(self, job: Job) -> None:
        command = job.container.get("command") or job.container.get("entrypoint") or ""
        if command.startswith("plan "):
            await self.play(job, json.loads(command.removeprefix("plan ")))
            return
        await asyncio.sleep(0.05)
        try:
            job.process = await asyncio.create_subprocess_exec(
                *shlex.split(command),
                env={"PATH": os.environ["PATH"], **job.container.get("env", {})},
                cwd=self.folder.name,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            await job.become("failed", reason="ContainerCannotRun", description=str(error), exit_code=128)
            return
        await job.become("running")
        assert job.process.stdout is not None
        async for line in job.process.stdout:
            await job.say(line.rstrip(b"\n") + (b"\r" if job.container.get("tty") else b""))
        code = await job.process.wait()
        if code:
            await job.become("failed", reason="Error", exit_code=code if code > 0 else 128 - code)
        else:
            await job.become("succeeded", exit_code=0)

    async def play(self, job: Job, steps: list[dict[str, Any]]) -> None:
        for step in steps:
            if "sleep" in step:
                await asyncio.sleep(step["sleep"])
            if "log" in step:
                for line in step["log"].split("\n"):
                    await job.say(line.encode())
            for key in ("hang_logs", "cut_logs", "chunk"):
                if key in step:
                    setattr(job, key, step[key])
            if "status" in step:
                await job.become(**step)

    # Monitoring.

    async def log_ws(self, request: web.Request) -> web.StreamResponse:
        job = self._job(request, by_name=False)
        socket = web.WebSocketResponse(heartbeat=30)
        await socket.prepare(request)

        async def listen() -> None:
            async for message in socket:
                if message.type == WSMsgType.ERROR:
                    return

        listening = asyncio.create_task(listen())
        try:
            await self._stream(job, request, socket.send_bytes)
        finally:
            listening.cancel()
        await socket.close()
        return socket

    async def log_chunks(self, request: web.Request) -> web.StreamResponse:
        job = self._job(request, by_name=False)
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        response.content_type = "text/plain"
        await response.prepare(request)
        await self._stream(job, request, response.write)
        await response.write_eof()
        return response

    async def _stream(self, job: Job, request: web.Request, send: Any) -> None:
        stamped = request.query.get("timestamps") == "true"
        separator = request.query.get("separator", f"=== Live logs ==={uuid.uuid4().hex}")
        since = 0
        if "since" in request.query:
            # Kubernetes counts in whole seconds.
            since = int(datetime.fromisoformat(request.query["since"]).timestamp()) * 1_000_000
        archived, place, sent = len(job.log), 0, 0
        while True:
            lines = job.log[place:]
            place += len(lines)
            data = b""
            for number, (at, line) in enumerate(lines, place - len(lines)):
                if at < since:
                    continue
                moment = datetime.fromtimestamp(at / 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")
                # Live logs have nanoseconds, archived ones microseconds.
                nanos = "" if number < archived else "123"
                data += (f"{moment}{nanos}Z ".encode() if stamped else b"") + line + b"\n"
            if archived and place >= archived and separator:
                data += f"{separator}\n".encode()
                separator = ""
            if job.cut_logs is not None and sent + len(data) >= job.cut_logs and job.status not in OVER:
                await send(data[: max(job.cut_logs - sent, 0)])
                job.cut_logs = None
                await asyncio.sleep(0.05)
                assert request.transport is not None
                request.transport.abort()
                raise asyncio.CancelledError
            size = job.chunk or len(data) or 1
            for start in range(0, len(data), size):
                await send(data[start : start + size])
            sent += len(data)
            async with job.changed:
                if place < len(job.log):
                    continue
                if job.status in OVER and not job.hang_logs:
                    return
                await job.changed.wait()

    # Storage.

    async def storage(self, request: web.Request) -> web.Response:
        path, action = "/" + request.match_info["path"], request.query.get("op")
        if action == "CREATE":
            self.files[path] = await request.read()
            return web.Response(status=201)
        if action == "GETFILESTATUS":
            if path not in self.files:
                raise Refused(404, error="File not found")
            status = {
                "path": path, "length": len(self.files[path]), "modificationTime": 1, "permission": "manage",
                "type": "FILE",
            }  # fmt: skip
            return web.json_response({"FileStatus": status})
        if action == "OPEN" and path in self.files:
            return web.Response(body=self.files[path])
        raise Refused(404, error="File not found")

    # For tests.

    async def add_fault(self, request: web.Request) -> web.Response:
        self.faults.append(await request.json())
        return web.json_response(None)

    async def reset(self, request: web.Request) -> web.Response:
        self.faults.clear()
        self.requests.clear()
        return web.json_response(None)

    async def show_requests(self, request: web.Request) -> web.Response:
        return web.json_response(self.requests)

    async def show_jobs(self, request: web.Request) -> web.Response:
        return web.json_response([job.describe(self.base) for job in self.jobs.values()])

    async def end_job(self, request: web.Request) -> web.Response:
        await self._end(self.jobs[request.match_info["id"]], **await request.json())
        return web.json_response(None)


async def main() -> None:
    double = Double()
    runner = web.AppRunner(double.app(), handler_cancellation=False, shutdown_timeout=0.5)
    await runner.setup()
    tls = None
    if len(sys.argv) > 1:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(*sys.argv[1:])
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=512, ssl_context=tls)
    await site.start()
    port = runner.addresses[0][1]
    double.base = f"{'http' if tls is None else 'https'}://127.0.0.1:{port}"
    print(json.dumps({"url": double.base, "token": TOKEN}), flush=True)
    # Whoever has started us holds the other end, and its death closes it.
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    for job in double.jobs.values():
        if job.process is not None and job.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(job.process.pid, signal.SIGKILL)
    await runner.cleanup()
    double.folder.cleanup()


if __name__ == "__main__":
    asyncio.run(main())
