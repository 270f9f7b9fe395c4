"""Goal: the client keeps its promises whatever the network does. Method: a double of the platform that does wrong."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from airfreight._remote import ApoloClient
from airfreight.errors import DeniedError, InvalidError, ObjectNotFoundError, StoreFullError, UnavailableError

if TYPE_CHECKING:
    from apolo_home import Platform

JOB = {"image": "ubuntu", "command": "true", "preset": "cpu-small"}


def plan(*steps: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {**JOB, "command": f"plan {json.dumps(steps)}", **more}


def follow(client: ApoloClient, job: dict[str, Any], **options: Any) -> list[dict[str, Any]]:
    """All events of a job up to its end."""
    events = []
    with client.watch(job["id"], **options) as watch:
        while not events or events[-1]["event"] != "ended":
            event = watch.next(60)
            assert event is not None
            events.append(event)
    return events


def lines(events: list[dict[str, Any]]) -> list[str]:
    return [line for event in events if event["event"] == "lines" for line in event["lines"]]


@pytest.mark.parametrize("kind", ["lose", "drop", "status"])
def test_a_lost_answer_is_no_second_job(kind: str, platform: Platform, client: ApoloClient) -> None:
    tag = uuid4().hex
    platform.fault("POST", "/jobs", kind=kind, status=503, times=2)
    job = client.create(JOB, tag=tag)
    assert [each["id"] for each in platform.jobs() if tag in each.get("tags", ())] == [job["id"]]


def test_a_lost_answer_about_the_lost_answer_is_no_second_job(platform: Platform, client: ApoloClient) -> None:
    tag = uuid4().hex
    platform.fault("POST", "/jobs", kind="lose")
    platform.fault("GET", f"tag={tag}", kind="drop", times=2)
    job = client.create(JOB, tag=tag)
    assert [each["id"] for each in platform.jobs() if tag in each.get("tags", ())] == [job["id"]]


def test_a_job_that_is_seen_late_is_taken_when_its_name_is_taken(platform: Platform, client: ApoloClient) -> None:
    tag = uuid4().hex
    platform.fault("POST", "/jobs", kind="lose")
    platform.fault("GET", f"tag={tag}", kind="status", status=200, text='{"jobs": []}')  # not listed yet
    platform.fault("POST", "/jobs", kind="status", status=400, text='{"error": "name taken"}')
    job = client.create({**JOB, "name": f"j{tag[:8]}"}, tag=tag)
    assert [each["id"] for each in platform.jobs() if tag in each.get("tags", ())] == [job["id"]]
    assert len(platform.requests("POST", "/jobs")) == 2


def test_without_a_tag_a_job_is_posted_once(platform: Platform, client: ApoloClient) -> None:
    platform.fault("POST", "/jobs", kind="lose")
    with pytest.raises(UnavailableError):
        client.create(JOB)
    assert len(platform.requests("POST", "/jobs")) == 1


@pytest.mark.parametrize(
    ("status", "text", "error"),
    [
        (401, "", DeniedError),
        (403, '{"missing": [{"uri": "job://main", "action": "write"}]}', DeniedError),
        (400, '{"error": "bad"}', InvalidError),
        (403, '{"error": "Jobs limit quota exceeded"}', StoreFullError),
        (402, "", StoreFullError),
    ],
)
def test_refusals_are_final(
    status: int, text: str, error: type[Exception], platform: Platform, client: ApoloClient
) -> None:
    platform.fault("POST", "/jobs", kind="status", status=status, text=text)
    with pytest.raises(error):
        client.create(JOB, tag=uuid4().hex)
    assert len(platform.requests("POST", "/jobs")) == 1


def test_too_many_requests_and_failures_pass(platform: Platform, client: ApoloClient) -> None:
    platform.fault("GET", "/jobs/", kind="status", status=429, headers={"Retry-After": "0"}, times=2)
    platform.fault("GET", "/jobs/", kind="status", status=500, times=1)
    platform.fault("GET", "/jobs/", kind="drop", times=1)
    with pytest.raises(ObjectNotFoundError):
        client.job("nobody")
    assert len(platform.requests("GET", "/jobs/nobody")) == 5


def test_patience_ends(platform: Platform) -> None:
    platform.fault("GET", "/config", kind="status", status=502, times=None)
    with pytest.raises(UnavailableError, match="status 502"):
        ApoloClient(platform.token, api_url=platform.api_url, patience=0.5).place()


def test_a_token_is_never_shown(platform: Platform) -> None:
    client = ApoloClient("very-secret", api_url=platform.api_url)
    with pytest.raises(DeniedError) as refused:
        client.place()
    assert "very-secret" not in f"{refused.value!r}{client!r}"
    platform.fault("GET", "/config", kind="status", status=400, text='{"error": "bad token very-secret"}')
    with pytest.raises(InvalidError, match="bad token …"):
        ApoloClient("very-secret", api_url=platform.api_url, timeout=29).place()


@pytest.mark.parametrize(
    "named", [{"cluster": "nowhere"}, {"org": "nobody"}, {"project": "none"}, {"cluster": "second", "project": "proj"}]
)
def test_places_that_the_token_does_not_open_are_refused(named: dict[str, str], platform: Platform) -> None:
    with pytest.raises(InvalidError, match="of Apolo: the token doesn't open it; there are "):
        ApoloClient(platform.token, api_url=platform.api_url, **named).place()


def test_an_organisation_follows_from_the_project(platform: Platform) -> None:
    place = ApoloClient(platform.token, api_url=platform.api_url, project="far").place()
    assert place == {"cluster": "main", "org": "other-org", "project": "far"}


def test_a_job_is_found_by_its_name(client: ApoloClient) -> None:
    name = f"n{uuid4().hex[:8]}"
    job = client.create({**JOB, "name": name})
    assert client.job(name)["id"] == job["id"]
    assert [each["id"] for each in client.jobs(name=name)] == [job["id"]]


def test_a_log_is_handed_out_once_over_cuts_and_in_any_pieces(client: ApoloClient) -> None:
    text = "\n".join(f"zeile {number} äöü" for number in range(40))
    steps = [{"chunk": 7}, {"status": "running"}, {"cut_logs": 500}, {"log": text}, {"sleep": 1.5}]
    job = client.create(plan(*steps, {"log": "last"}, {"status": "succeeded", "exit_code": 0}))
    events = follow(client, job)
    assert lines(events) == [*text.split("\n"), "last"]
    assert events[-1]["log_error"] is None


def test_a_log_goes_on_at_the_cursor(client: ApoloClient) -> None:
    job = client.create(
        plan({"status": "running"}, {"log": "a\nb"}, {"sleep": 2}, {"log": "b\nc"}, {"status": "failed"})
    )
    with client.watch(job["id"]) as watch:
        seen: list[str] = []
        while seen != ["a", "b"]:
            event = watch.next(30)
            assert event is not None
            seen += lines([event])
    assert lines(follow(client, job, cursor=watch.cursor)) == ["b", "c"]


def test_a_log_that_hangs_is_cut_after_the_end(client: ApoloClient) -> None:
    job = client.create(plan({"status": "running"}, {"hang_logs": True}, {"log": "a"}, {"status": "succeeded"}))
    events = follow(client, job)
    assert lines(events) == ["a"]
    assert events[-1]["log_error"] is None


def test_a_job_is_over_although_its_log_cannot_be_read(platform: Platform, client: ApoloClient) -> None:
    platform.fault("GET", "/log", kind="status", status=403, times=None)
    events = follow(client, client.create(JOB))
    assert events[-1]["job"]["status"] == "succeeded"
    assert "403" in events[-1]["log_error"]


def test_a_log_comes_in_chunks_where_no_web_socket_gets_through(platform: Platform, client: ApoloClient) -> None:
    platform.fault("GET", "/log_ws", kind="status", status=426, times=None)
    steps = [{"status": "running"}, {"log": "a\nb"}, {"sleep": 1}, {"log": "c"}, {"status": "succeeded"}]
    assert lines(follow(client, client.create(plan(*steps)))) == ["a", "b", "c"]


def test_a_watch_lives_through_failures(platform: Platform, client: ApoloClient) -> None:
    job = client.create(plan({"status": "running"}, {"sleep": 2}, {"status": "succeeded", "exit_code": 0}))
    platform.fault("GET", f"/jobs/{job['id']}", kind="status", status=503, times=3)
    platform.fault("GET", f"/jobs/{job['id']}", kind="drop", times=2)
    assert [event["status"] for event in follow(client, job) if event["event"] == "status"][-1] == "succeeded"


@pytest.mark.parametrize(
    ("part", "status"),
    [
        ("/config", 503),  # where logs are, the platform says when it is asked for its clusters
        ("/log", 404),  # a container that is so new that nobody has heard of its log
    ],
)
def test_a_log_is_waited_for(part: str, status: int, platform: Platform, client: ApoloClient) -> None:
    steps = [{"status": "running"}, {"log": "one"}, {"sleep": 2}, {"log": "two"}, {"status": "succeeded"}]
    job = client.create(plan(*steps))
    platform.fault("GET", part, kind="status", status=status, times=2)
    other = ApoloClient(platform.token, api_url=platform.api_url, patience=10, timeout=28)
    assert lines(follow(other, job)) == ["one", "two"]
    assert len(platform.requests("GET", part)) >= 3


def test_a_watch_may_end_with_the_start(client: ApoloClient) -> None:
    steps = [{"sleep": 0.5}, {"status": "suspended"}, {"sleep": 0.5}, {"status": "running"}, {"sleep": 60}]
    events = follow(client, client.create(plan(*steps)), until="start")
    assert events[-1]["job"]["status"] == "running"
    assert not lines(events)


def test_a_cancelled_job_stays_cancelled(client: ApoloClient) -> None:
    job = client.create({**JOB, "command": "sleep 100"})
    client.kill(job["id"])
    client.kill(job["id"])
    assert follow(client, job)[-1]["job"]["history"]["reason"] == "UserRequested"
    with pytest.raises(ObjectNotFoundError):
        client.kill("nobody")


def test_a_client_works_after_a_fork(client: ApoloClient) -> None:
    client.place()
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if client.place()["cluster"] == "main" else 1)
        except BaseException:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
