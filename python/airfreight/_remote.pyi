"""A client of Ray's Jobs API, and watches over its jobs (Rust, crates/airfreight-remote)."""

from asyncio import Future
from collections.abc import Mapping
from typing import Any, Self, final

@final
class RayClient:
    """
    One Ray cluster, by the address of its dashboard.

    Making one is cheap: it connects with the first question. All clients of a process that have the same arguments
    share at most eight connections. A client made before ``fork()`` works in both processes.

    Methods block until there is an answer, without the GIL. Python's signal handlers run meanwhile, at most 100 ms
    after the signal, and what they raise ends the call.

    :param address: the dashboard's URL, such as ``http://ray-head:8265``; a path prefix of a proxy is kept.
    :param token: Ray's token; goes as ``Authorization``, or as ``X-Ray-Authorization`` where ``basic`` needs that one.
    :param basic: login and password of a proxy in front of Ray.
    :param headers: sent with every request, as they are.
    :param cookies: sent with every request.
    :param verify: ``False`` accepts any certificate; a path is the bundle of the authorities to trust.
    :param client_cert: a PEM file with the certificate to show, and the key too unless ``client_key`` has it.
    :param client_key: a PEM file with the certificate's private key.
    :param proxy: an HTTP proxy to go through; by default what the environment says.
    :param timeout: seconds for one attempt.
    :param patience: seconds for which what doesn't answer is asked again, and a watch waits for a silent dashboard.
    :raises InvalidError: the address, or another argument, can't be used.
    """

    def __new__(
        cls,
        address: str,
        *,
        token: str | None = None,
        basic: tuple[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        cookies: Mapping[str, str] | None = None,
        verify: bool | str = True,
        client_cert: str | None = None,
        client_key: str | None = None,
        proxy: str | None = None,
        timeout: float = 30.0,
        patience: float = 300.0,
    ) -> Self: ...
    @property
    def address(self) -> str:
        """Where the dashboard is, normalised and without credentials."""
    def cluster(self) -> dict[str, str | None]:
        """
        What there is at the address: ``ray_version``, ``python_version``, ``session_name``, ``authentication``.

        All but the first are ``None`` where that Ray doesn't tell. Another ``session_name`` is another cluster.

        :raises InvalidError: no Ray, or one before 2.9.
        """
    def submit(self, submission: Mapping[str, Any]) -> bool:
        """
        Submits a job, once, however often an answer gets lost on the way.

        :param submission: the body of Ray's ``POST /api/jobs/``; ``submission_id`` must be in it.
        :returns: whether it is new; ``False``: this very submission had arrived before.
        :raises ConflictError: another submission has this id.
        """
    def job(self, submission_id: str) -> dict[str, Any] | None:
        """Ray's details of a job, as Ray tells them; ``None`` when it knows none of that id."""
    def jobs(self) -> list[dict[str, Any]]:
        """All jobs of the cluster, old ones too; Ray keeps them for ever."""
    def stop(self, submission_id: str) -> bool:
        """
        Asks Ray to stop a job and doesn't wait until it has.

        :returns: ``False``: it was over already. A job that still waits for resources says ``True``, but Ray stops it
            only once it has them.
        """
    def delete(self, submission_id: str) -> bool:
        """Forgets a job that is over; ``False`` when there was none. Its id must not be used again."""
    def logs(self, submission_id: str) -> str:
        """The whole log of a job as text, without control lines; all of it in memory."""
    def last_lines(self, submission_id: str, lines: int) -> list[str]:
        """The last lines of a job's log, control lines among them; none while it hasn't begun to write."""
    def log_file(self, node_id: str, name: str) -> bytes:
        """
        A file below the session's log directory on a node, such as ``job-driver-<submission id>.log``.

        :raises ObjectNotFoundError: there is no such file, or no such node any more.
        """
    def upload(self, package: bytes) -> str:
        """Gives Ray a zip for ``working_dir`` or ``py_modules``, unless it has it; returns its ``gcs://`` URI."""
    def resolve_runtime_env(self, runtime_env: Mapping[str, Any], base: str | None = None) -> dict[str, Any]:
        """
        A runtime environment in which local directories and zips have been packed, uploaded, and replaced by URIs.

        :param base: what relative paths start from; by default the current directory.
        """
    def job_url(self, submission_id: str) -> str:
        """The job's page in the Ray dashboard, for people."""
    def watch(
        self,
        submission_id: str,
        *,
        logs: bool = True,
        cursor: str | None = None,
        session: str | None = None,
        deadline: float | None = None,
    ) -> Watch:
        """
        Follows a job until it is over; one watcher serves all watches of a cluster.

        :param logs: hand out the lines of its log, too.
        :param cursor: where an earlier watch of this job had got to.
        :param session: the ``session_name`` under which it was submitted; tells a replaced cluster from a lost job.
        :param deadline: Unix time at which to say ``deadline``.
        """

@final
class Watch:
    r"""
    One job being followed. Each event is a dict with its name under ``event``:

    ``lines``
        ``lines``, without their newlines, in order, each once; and ``cursor``. A line that a terminal would have
        overwritten (``\r``) comes as its last state, one over 64 KiB in pieces; what isn't UTF-8 is replaced.
    ``repeats``
        ``reason``: the lines from here on may have been handed out before.
    ``status``
        ``status`` and ``job``, whenever the status has changed, and once at the beginning.
    ``unreachable``
        ``seconds`` for which the dashboard hasn't answered, and ``error``; once a minute. After the client's
        ``patience``, an :class:`~airfreight.errors.UnavailableError` is raised.
    ``deadline``
        the deadline has passed, once; the watch goes on.
    ``ended``
        the last one, after the last line: ``job``, and ``log_error``, which says why the log is incomplete, if it is.
    ``gone``
        the last one, too: Ray doesn't know the job any more. ``replaced``: because this is another cluster.

    After the last one, and after an error, the same comes again. A watch that nobody holds costs nothing.
    """

    @property
    def submission_id(self) -> str: ...
    @property
    def cursor(self) -> str:
        """Where the log lines that have been handed out end: less than 1 KiB, for :meth:`RayClient.watch`."""
    def next(self, wait: float | None = None) -> dict[str, Any] | None:
        """
        The next event; blocks without the GIL, as the client's methods do.

        :param wait: after so many seconds without one, return ``None``; by default wait for ever.
        :raises UnavailableError: the dashboard hasn't answered for the client's ``patience``.
        :raises DeniedError: it doesn't take our credentials any more.
        """
    def anext(self) -> Future[dict[str, Any]]:
        """
        The next event, for ``await`` on the running asyncio loop, which is never blocked.

        Cancelling loses nothing: the event goes to the next call. One call may wait at a time.
        """
    def close(self) -> None:
        """Stops following; the job goes on. A closed watch has no further events."""
    def __enter__(self) -> Self: ...
    def __exit__(self, *exc: object) -> None: ...
