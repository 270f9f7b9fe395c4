"""
The agents' pages inside Airflow's UI.

The API server fetches them from the agents, with the token that tasks use, and gives them to whom Airflow lets in: who
may see plugins, and the XComs of the DAG that is shown, or of all DAGs. So browsers need to reach no agent, and nobody
signs in twice. Imported by the API server alone, which has FastAPI and httpx.
"""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

from fastapi import Depends, FastAPI, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from httpx import AsyncClient, HTTPError

from airfreight import neighbours
from airfreight.errors import AirfreightError
from airfreight.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airfreight.settings import Settings

#: Where it is mounted; Airflow keeps other prefixes for itself.
PREFIX = "/airfreight"
#: What of an agent is a page, or what a page needs. Nothing else is fetched for anyone.
_PAGES = re.compile(r"|style\.css|objects/[0-9a-f]{32}(-[0-9a-f]{16})?")
#: An agent on a host that is gone should not keep a reader waiting for long.
_SECONDS = 10.0
_POLICY = (
    "default-src 'none'; style-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
#: The few pages that are not an agent's own: a list of agents, and what went wrong.
_STYLE = """\
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem; color: CanvasText; background: Canvas; }
h1 { font-size: 1.4rem; }
li { margin: .4rem 0; }
"""


def make_app(settings: Settings | None = None) -> FastAPI:
    """The application that Airflow's API server mounts at :data:`PREFIX`."""
    from airflow.api_fastapi.auth.managers.models.resource_details import AccessView, DagAccessEntity
    from airflow.api_fastapi.core_api.security import requires_access_dag, requires_access_view

    known = settings or load_settings()
    app = FastAPI(
        title="Airfreight",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        dependencies=[
            Depends(requires_access_view(AccessView.PLUGINS)),
            Depends(requires_access_dag("GET", DagAccessEntity.XCOM)),
        ],
    )

    @app.get("/")
    def all_agents(request: Request) -> Response:
        return _choice(request, agents(known), {})

    @app.get("/dags/{dag_id}")
    def of_dag(request: Request, dag_id: str) -> Response:
        return _choice(request, agents(known), {"dag_id": dag_id})

    @app.get("/dags/{dag_id}/runs/{run_id}")
    def of_run(request: Request, dag_id: str, run_id: str) -> Response:
        return _choice(request, agents(known), {"dag_id": dag_id, "run_id": run_id})

    @app.get("/dags/{dag_id}/runs/{run_id}/tasks/{task_id}")
    def of_task(request: Request, dag_id: str, run_id: str, task_id: str) -> Response:
        return _choice(request, agents(known), {"dag_id": dag_id, "run_id": run_id, "task_id": task_id})

    @app.get("/agents/{number}/{path:path}")
    async def of_agent(request: Request, number: int, path: str) -> Response:
        urls = agents(known)
        # The query may name the DAG to whose XComs one has the right; an object is of whichever DAG it is.
        is_page = _PAGES.fullmatch(path) is not None and not (path and request.url.query)
        if not 0 <= number < len(urls) or not is_page:
            return _told(request, 404, "There is no such page", "[airfreight] agents names the agents that are shown.")
        return await _fetch(request, known, urls[number], path)

    @app.get("/style.css")
    def style() -> Response:
        return Response(_STYLE, media_type="text/css")

    return app


def agents(settings: Settings) -> Sequence[str]:
    """The URLs of the agents whose pages are shown: those that are set, else the one that ``agent_url`` names."""
    if settings.agents:
        return settings.agents
    url = settings.agent_url
    return (url,) if url and "{" not in url else ()


def links(settings: Settings, base_path: str) -> list[dict[str, Any]]:
    """What Airflow's UI links to: a page of its own, a tab of runs and of task instances; nothing without agents."""
    if not agents(settings):
        return []
    root = f"{base_path.rstrip('/')}{PREFIX}"
    run = f"{root}/dags/{{DAG_ID}}/runs/{{RUN_ID}}"
    return [
        {
            "name": "Airfreight",
            "href": f"{root}/",
            "destination": "nav",
            "category": "browse",
            "url_route": "airfreight",
        },
        {"name": "Stored values", "href": run, "destination": "dag_run", "url_route": "airfreight-run"},
        {
            "name": "Stored values",
            "href": f"{run}/tasks/{{TASK_ID}}",
            "destination": "task_instance",
            "url_route": "airfreight-task",
        },
    ]


def _root(request: Request) -> str:
    """Where this application is mounted, as the browser sees it."""
    return str(request.scope.get("root_path", "")).rstrip("/")


def _choice(request: Request, urls: Sequence[str], wanted: dict[str, str]) -> Response:
    """The page of the only agent, or a list of all of them."""
    query = f"?{urlencode(wanted, quote_via=quote)}" if wanted else ""
    if len(urls) == 1:
        return RedirectResponse(f"{_root(request)}/agents/0/{query}", status_code=307)
    if not urls:
        return _told(
            request, 404, "No agent is known here", "Name the agents of the workers' hosts in [airfreight] agents."
        )
    rows = "".join(
        f'<li><a href="{html.escape(f"{_root(request)}/agents/{number}/{query}")}">{html.escape(_name(url))}</a></li>'
        for number, url in enumerate(urls)
    )
    of = " of ".join(html.escape(name) for name in reversed(list(wanted.values())))
    heading = f"What hosts hold of {of}" if wanted else "What hosts hold"
    return _page(request, 200, heading, f"<ul>{rows}</ul>")


def _name(url: str) -> str:
    return urlsplit(url).netloc


async def _fetch(request: Request, settings: Settings, url: str, path: str) -> Response:
    headers = {"sec-fetch-dest": "iframe"}
    try:
        token = neighbours.token(settings)
    except AirfreightError as error:
        return _told(request, 502, "There is no token for agents", html.escape(f"{error.message}; {error.hint}"))
    if token is not None:
        headers["authorization"] = f"Bearer {token}"
    query = f"?{request.url.query}" if request.url.query else ""
    try:
        # Reading all authorities takes a while, and http:// needs none.
        verify = _trust(settings) if url.startswith("https:") else False
        async with AsyncClient(verify=verify, timeout=_SECONDS, trust_env=False) as client:
            answer = await client.get(f"{url}/{path}{query}", headers=headers)
    except (HTTPError, OSError) as error:
        reason = html.escape(str(error) or type(error).__name__)
        return _told(
            request,
            502,
            f"The agent of {html.escape(_name(url))} does not answer",
            f"{reason}. Does <code>airfreight agent</code> run there, and can the API server reach it?",
        )
    if answer.status_code == 401:
        return _told(
            request,
            502,
            f"The agent of {html.escape(_name(url))} wants another token",
            "[airfreight] agent_token or agent_token_file of the API server must be one that the agent knows.",
        )
    return Response(
        answer.content,
        answer.status_code,
        media_type=answer.headers.get("content-type", "text/html"),
        headers=_guards(),
    )


def _trust(settings: Settings) -> Any:
    """Whom to trust and who we are, as tasks have it: by default the system's authorities."""
    import ssl

    context = ssl.create_default_context(cafile=settings.agent_ca_file)
    if settings.agent_certificate_file is not None:
        context.load_cert_chain(settings.agent_certificate_file, settings.agent_key_file)
    return context


def _guards() -> dict[str, str]:
    return {
        "content-security-policy": _POLICY,
        "referrer-policy": "same-origin",
        "x-content-type-options": "nosniff",
        "cache-control": "no-store",
    }


def _told(request: Request, status: int, what: str, more: str) -> Response:
    return _page(request, status, what, f"<p>{more}</p>")


def _page(request: Request, status: int, heading: str, body: str) -> Response:
    """:param body: markup."""
    style = html.escape(f"{_root(request)}/style.css")
    text = (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{heading}</title>'
        f'<meta name="color-scheme" content="light dark"><link rel="stylesheet" href="{style}"></head>'
        f"<body><main><h1>{heading}</h1>{body}</main></body></html>"
    )
    return HTMLResponse(text, status, headers=_guards())
