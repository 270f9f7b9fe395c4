"""Clients of what runs elsewhere, and watches over it (Rust, crates/airfreight-remote)."""

from asyncio import Future
from collections.abc import Callable, Mapping, Sequence
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
    :param through: what leads to the address; it stays open for as long as the client is there.
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
        through: KubeForward | None = None,
    ) -> Self: ...
    @property
    def address(self) -> str:
        """Where the dashboard is, normalised and without credentials."""
    @property
    def is_forwarded(self) -> bool:
        """Whether the address leads somewhere in this process only."""
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

    def runner(
        self,
        driver_package: bytes,
        *,
        port: int = 0,
        idle_seconds: float = 900.0,
        transport: str = "auto",
    ) -> RayRunner:
        """
        The cluster's runner, which executes functions without a job for each. Nothing is asked or started yet.

        :param driver_package: the zip with the cluster's side; other code is another runner.
        :param port: the port that a runner which is started listens on; 0 for any.
        :param idle_seconds: after how long without requests and calls it ends; 0 for never.
        :param transport: ``port``: its own port or none, even where the dashboard speaks TLS and the port doesn't;
            ``mailbox``: only through the dashboard; ``auto``: its own port where that can be reached from here.
        """

@final
class RayRunner:
    """
    A cluster's runner: found, or started, with the first call; one for all in this process that ask for the same.

    What gets lost on the way is sent again, and a runner that has begun another life is found anew, for as long as the
    client's ``patience``; works in a forked process, too.
    """

    @property
    def id(self) -> str:
        """What it is called; its jobs' submission ids begin with it."""
    @property
    def job_id(self) -> str:
        """The submission id of its job, as far as it is known."""
    @property
    def transport(self) -> str | None:
        """The way that requests take now: ``port`` or ``mailbox``; ``None`` before there was any."""
    def ready(self, wait: float | None = None) -> dict[str, Any]:
        """
        Finds it, and starts it if need be: ``python``, ``ray``, ``generation``, ``node_id``, ``transport``.

        :param wait: seconds that a start may take; two minutes by default.
        :raises UnavailableError: it does not start, and why.
        """
    def running(self) -> bool:
        """Whether its job is there and not over; starts nothing."""
    def call(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        """
        Submits a call, once, however often an answer gets lost; its state, the last one if it took less than a second.

        :raises ConflictError: another call has this id.
        """
    def calls(self, owner: str) -> list[dict[str, Any]]:
        """The calls of an owner, without their results."""
    def state(self, owner: str, call_id: str) -> dict[str, Any] | None:
        """Where a call stands; ``None`` when its owner doesn't know it, or is gone."""
    def cancel(self, owner: str, call_id: str) -> bool:
        """Stops a call; ``False``: it was over already, or nobody knows it."""
    def watch(
        self,
        owner: str,
        call_id: str,
        *,
        logs: bool = True,
        cursor: str | None = None,
        session: str | None = None,
        deadline: float | None = None,
    ) -> CallWatch:
        """
        Follows a call until it is over, as :meth:`RayClient.watch` follows a job; one feed serves all of a process.

        The ``job`` of its events is the call's state, with ``submission_id`` and ``driver_node_id`` as a job has them.
        """
    def owners(self) -> list[dict[str, Any]]:
        """The owners on the cluster: one for each DAG run that has values or calls there."""
    def drop_owner(self, name: str) -> bool:
        """Ends an owner, and with it the calls and values of its DAG run; ``False`` when there is none."""
    def drop(self, owner: str, key: str) -> bool:
        """Frees one value; ``False`` when it isn't there."""
    def value(self, owner: str, key: str, generation: str) -> dict[str, Any]:
        """What there is of a value: ``state`` is ``there`` or ``gone``."""
    def fetch(
        self,
        value: Mapping[str, Any],
        store: Mapping[str, Any],
        *,
        route: str = "auto",
        url: Mapping[str, Any] | None = None,
        progress: Callable[[int, int], object] | None = None,
    ) -> str:
        """
        Brings a value of the cluster into this host's store, unless it is there; returns its name.

        Every byte is verified before it is written; what is cut goes on where it was. Another process that fetches the
        same value at the same time gets the same object.

        :param value: ``owner``, ``generation``, ``key``, and ``nbytes``, if known.
        :param store: the arguments of :class:`airfreight._store.Store` by name: the same directory and limits.
        :param route: ``port``: the runner's own, for any size; ``dashboard``: up to 256 MiB; ``bucket``: by ``url``;
            ``auto``: the first of these that is there.
        :param url: presigned for one place in a bucket: ``put``, where the cluster writes (with ``headers``), and
            ``get``.
        :param progress: called in this thread, about once a second, with how many bytes have come of how many.
        :raises ObjectLostError: the cluster doesn't have it any more.
        :raises StoreFullError: there is no room for it; nothing was sent.
        :raises CorruptError: it comes damaged however often it is asked for.
        :raises UnavailableError: the cluster doesn't answer.
        :raises OutOfReachError: no way to it carries so much.
        """
    def send(
        self,
        name: str,
        store: Mapping[str, Any],
        owner: str,
        info: Mapping[str, Any],
        *,
        route: str = "auto",
        url: Mapping[str, Any] | None = None,
        progress: Callable[[int, int], object] | None = None,
    ) -> dict[str, Any]:
        """
        Makes an object of the store a value of the cluster, once; returns ``owner``, ``generation``, ``key``.

        :param owner: the DAG run's, which is made where there is none, of ``info``.
        :param url: ``get``: a presigned URL where the object lies in a bucket already.
        :raises ObjectNotFoundError: the store has no such object.
        :raises OutOfReachError: no way to the cluster carries so much.
        """
    def end(self) -> bool:
        """Ends its job and actor; owners and their values stay. ``False`` when there was none."""

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

CallWatch = Watch

ApoloWatch = Watch

@final
class ApoloClient:
    """
    The Apolo platform (formerly neu.ro), as the owner of a token sees it.

    Making one is cheap: it connects with the first question. All clients of a process that have the same arguments
    share their connections. A client made before ``fork()`` works in both processes.

    Methods block until there is an answer, without the GIL. Python's signal handlers run meanwhile, at most 100 ms
    after the signal, and what they raise ends the call.

    :param token: a raw token, or the platform's passed config, which also says where and for which project.
    :param api_url: where the API is; by default what the passed config says, else Apolo's own.
    :param cluster: where jobs run; by default the first cluster that the token opens.
    :param org: for whom; by default the cluster's first organisation.
    :param project: in which project; by default the first one there.
    :param verify: ``False`` accepts any certificate; a path is a bundle of authorities to trust beside the system's.
    :param proxy: a proxy to go through; by default what the environment says.
    :param timeout: seconds for one attempt.
    :param patience: seconds for which what doesn't answer is asked again.
    :raises InvalidError: an argument can't be used.
    """

    def __new__(
        cls,
        token: str,
        *,
        api_url: str | None = None,
        cluster: str | None = None,
        org: str | None = None,
        project: str | None = None,
        verify: bool | str = True,
        proxy: str | None = None,
        timeout: float = 30.0,
        patience: float = 300.0,
    ) -> Self: ...
    @property
    def api_url(self) -> str:
        """Where the API is."""
    def place(self) -> dict[str, str | None]:
        """
        Where jobs run: ``cluster``, ``org``, ``project``.

        :raises DeniedError: the token is not good.
        :raises InvalidError: the token doesn't open what was named.
        """
    def request(self, spec: Mapping[str, Any]) -> tuple[str, Any]:
        """The path and the body that :meth:`create` would post; nothing is."""
    def create(self, spec: Mapping[str, Any], *, tag: str | None = None) -> dict[str, Any]:
        """
        Creates a job.

        :param spec: the job: the fields of ``JobSpec`` in crates/airfreight-apolo.
        :param tag: a tag that no other job has: by it the job is looked up before it is posted again, so there is one
            job, however often answers get lost. Without it, it is posted once.
        :returns: the platform's description of the job.
        :raises InvalidError: it can't be right, or the platform refuses it.
        :raises StoreFullError: a quota or the credits are used up.
        """
    def job(self, job_id: str) -> dict[str, Any]:
        """
        The platform's description of a job.

        :param job_id: its id, or its name, which means the newest of that name.
        :raises ObjectNotFoundError: there is none.
        """
    def jobs(
        self,
        *,
        tags: Sequence[str] = (),
        statuses: Sequence[str] = (),
        name: str | None = None,
        limit: int | None = None,
    ) -> list[dict[str, Any]]:
        """Jobs of the project that have all of these tags and one of these statuses, the newest first."""
    def kill(self, job_id: str, *, patience: float | None = None) -> None:
        """
        Cancels a job; one that is over stays as it is.

        :param patience: in place of the client's.
        """
    def resource_uri(self, uri: str, scheme: str) -> str:
        """The full form of a ``storage:``, ``secret:`` or ``disk:`` URI."""
    def watch(
        self,
        job_id: str,
        *,
        until: str = "end",
        logs: bool = True,
        cursor: str | None = None,
        deadline: float | None = None,
        poll_interval: float | None = None,
    ) -> Watch:
        """
        Follows a job.

        Its events are those of :class:`Watch` but ``repeats`` and ``gone``; a job that isn't there is an
        ``ObjectNotFoundError``. The log is read beside the status and cut some seconds after the job's end.

        :param until: ``end``; ``start``: the job has left its queue; or a status: until it has another one.
        :param logs: whether the lines of its log are wanted.
        :param cursor: where an earlier watch has got to.
        :param deadline: Unix time at which to say so; the watch goes on.
        :param poll_interval: seconds between two questions; by default from 0.2 to 2.
        """

@final
class KubeClusters:
    """
    The Ray clusters of a Kubernetes API server, through the objects of the KubeRay operator.

    Making one is cheap: it reads its kubeconfig and connects with the first question. All of a process that have the
    same arguments share their connections. One made before ``fork()`` works in both processes.

    Methods block until there is an answer, without the GIL. Python's signal handlers run meanwhile, at most 100 ms
    after the signal, and what they raise ends the call.

    :param kubeconfig_path: the file that says where the API server is; by default ``KUBECONFIG``, ``~/.kube/config``,
        and in a pod its service account: the first that is there.
    :param kubeconfig: the text of such a file, YAML or JSON.
    :param in_cluster: the pod's service account and nothing else.
    :param context: the kubeconfig's context, where not the current one is meant.
    :param namespace: of clusters whose description names none; by default the context's.
    :param verify: whether the API server's certificate is checked.
    :param timeout: seconds for one attempt.
    :param patience: seconds for which an API server that doesn't answer is asked again.
    :raises InvalidError: there is no usable kubeconfig.
    """

    def __new__(
        cls,
        *,
        kubeconfig_path: str | None = None,
        kubeconfig: str | None = None,
        in_cluster: bool = False,
        context: str | None = None,
        namespace: str | None = None,
        verify: bool = True,
        timeout: float = 30.0,
        patience: float = 120.0,
    ) -> Self: ...
    def place(self) -> tuple[str, str]:
        """The API server's URL, and the namespace of clusters whose description names none; asks nothing of it."""
    def operator(self) -> dict[str, Any] | None:
        """
        What there is of the KubeRay operator: what it ``serves`` (``rayclusters``, …), and of its deployment, where one
        of the usual name can be seen, ``namespace``, ``version`` and ``is_available``; ``None``: its objects are not
        known.
        """
    def apply_objects(
        self,
        texts: Sequence[str],
        *,
        namespace: str | None = None,
        images: Mapping[str, str] | None = None,
        update: bool = True,
        patience: float = 600.0,
    ) -> list[tuple[str, bool]]:
        """
        Applies objects of other kinds in an order in which they are of use, and returns when definitions of kinds are
        served and deployments available.

        :param texts: YAML, each with one or several objects: accounts, roles, bindings, services, definitions,
            deployments, daemon sets.
        :param namespace: where they go, instead of where they say.
        :param images: others than theirs, by their names without tags.
        :param update: whether to change what is there already.
        :returns: what each is, and whether it was there and was left as it is.
        :raises InvalidError: a text is no YAML, or has an object of another kind.
        :raises DeniedError: we may not, and every right that is missing; nothing was written.
        :raises UnavailableError: they don't come up, after ``patience`` seconds.
        """
    def read_objects(self, texts: Sequence[str]) -> list[dict[str, Any] | None]:
        """The objects as the API server has them; of ``texts``, kind, name and namespace count."""
    def delete_objects(self, texts: Sequence[str]) -> list[str]:
        """Deletes those of the objects that Airfreight has applied, but no definitions; returns what was deleted."""
    def apply(
        self,
        description: Mapping[str, Any],
        *,
        kind: str = "RayCluster",
        update: bool = False,
        owner: str | None = None,
        attempt: Mapping[str, Any] | None = None,
        patience: float = 600.0,
    ) -> dict[str, Any]:
        """
        Creates a cluster unless there is one of its name.

        :param description: the ``RayCluster``.
        :param kind: ``RayCluster``, ``RayJob`` or ``RayService``; here and below.
        :param update: whether one that was described otherwise is changed; else it is kept as it is.
        :param owner: marks a cluster that is created as one task's.
        :param attempt: what the cluster says of who has made it: ``dag_id``, ``run_id``, ``task_id``, ``map_index``,
            ``try_number`` and ``deployment``.
        :param patience: seconds for which one that is just being deleted is waited for.
        :returns: as :meth:`get`, and ``outcome``: ``created``, ``unchanged``, ``updated`` or ``kept``.
        :raises InvalidError: the description has no meaning, and where; or there is no KubeRay.
        :raises DeniedError: we may not, and which right is missing.
        """
    def get(self, namespace: str, name: str, *, kind: str = "RayCluster") -> dict[str, Any] | None:
        """A cluster: ``name``, ``namespace``, ``uid``, ``owner``, and the whole ``object``."""
    def list(self, namespace: str, *, owner: str | None = None, kind: str = "RayCluster") -> list[dict[str, Any]]:
        """Those of a namespace that Airfreight has made, as :meth:`get` gives them; with ``owner`` one task's."""
    def delete(self, namespace: str, name: str, *, uid: str | None = None, kind: str = "RayCluster") -> bool:
        """
        Deletes a cluster with its pods and services, and doesn't wait.

        :param uid: another cluster of this name is left alone.
        :returns: ``False``: there was none.
        """
    def suspend(self, namespace: str, name: str, suspend: bool, *, kind: str = "RayJob") -> bool:
        """Suspends a job or a cluster, whose pods go, or lets it go on; ``False``: there is none of this name."""
    def wait_gone(
        self, namespace: str, name: str, *, uid: str | None = None, patience: float = 600.0, kind: str = "RayCluster"
    ) -> None:
        """
        Returns when a cluster and its pods are gone.

        :raises UnavailableError: they are not, after ``patience``.
        """
    def watch(self, namespace: str, name: str, *, patience: float = 1200.0, kind: str = "RayCluster") -> KubeWatch:
        """
        Follows a cluster or service until it serves, or a job until it is over. An event is ``line``, with a ``line``
        for people whenever something has changed and ``is_problem``, or the last one: ``ready``, with its ``uid``, or a
        job's ``ended``, with ``is_success``, Ray's ``status``, ``why`` it failed, its ``job_id`` in Ray and its
        ``cluster``, as far as it got.

        What the watch raises says why the cluster doesn't start:

        :raises UnavailableError: it can't start as things are, or hasn't after ``patience``.
        :raises ObjectNotFoundError: there is none, or it was deleted meanwhile.
        """
    def open_way(self, namespace: str, name: str, *, patience: float = 2.0) -> dict[str, Any] | None:
        """
        The first way to a cluster's head that is open from here.

        :param patience: seconds for which each way is tried.
        :returns: ``kind`` (``service``, ``load_balancer``, ``node_port`` or ``ingress``) and ``urls``, one for each
            port by its name; ``None``: only a forward leads there.
        """
    def forward(self, namespace: str, name: str, *, port: int = 8265, local_port: int = 0) -> KubeForward:
        """
        Forwards a port of this process to one of the head's, through the API server.

        :param local_port: of 127.0.0.1; 0 for any.
        :raises DeniedError: we may not.
        """
    def token(self, namespace: str, name: str) -> str | None:
        """The token that a cluster's Ray wants, if KubeRay has made one for it."""

@final
class KubeForward:
    """A port of this process that leads into a Ray cluster; whatever ends a connection, the next one finds its way."""

    @property
    def address(self) -> str:
        """``http://127.0.0.1:…``."""
    def close(self) -> None:
        """Ends it; who goes through it must go another way."""
    def __enter__(self) -> Self: ...
    def __exit__(self, *exc: object) -> None: ...

KubeWatch = Watch

@final
class Agent:
    """
    The agent of another host.

    Making one asks nothing of it. It may be used after ``fork()``; each process has connections of its own. Agents are
    reached directly, never through a proxy.

    :param url: ``http://host:port`` or ``https://host:port``.
    :param token: what it wants to see of those who read.
    :param authorities: a PEM file of the authorities that sign agents' certificates; by default the system's.
    :param certificate: our own, for agents that want to see one; a PEM file, as is ``key``.
    :param patience: how many seconds it may be silent in the middle of a transfer.
    :param doubt: how many seconds it may be silent that was never heard of.
    :raises InvalidError: the URL, the token or a certificate can't be used.
    """

    def __new__(
        cls,
        url: str,
        *,
        token: str | None = None,
        authorities: str | None = None,
        certificate: str | None = None,
        key: str | None = None,
        patience: float = 30.0,
        doubt: float = 5.0,
    ) -> Self: ...
    @property
    def url(self) -> str:
        """Where it is."""
    def fetch(
        self,
        store: Mapping[str, Any],
        name: str,
        progress: Callable[[int, int], object] | None = None,
    ) -> int | None:
        """
        Brings an object into this host's store, unless it is there; of many who ask at once, one brings it.

        :param store: how the store was opened: the arguments of :class:`airfreight._store.Store`, by name.
        :param progress: called about once a second with the bytes that have arrived, and all of them.
        :returns: the bytes that were moved; ``None`` when it was here, or another has brought it meanwhile.
        :raises ObjectNotFoundError: that host doesn't have it.
        :raises UnavailableError: nothing answers.
        :raises CorruptError: it comes damaged however often it is asked for; nothing of it is kept.
        """

@final
class Bucket:
    """
    A bucket of S3, Google Cloud Storage or Azure, or a directory, with copies of objects of the store.

    Making one asks nothing of the bucket. It may be used after ``fork()``; each process has connections of its own.
    Methods block without the GIL, and signal handlers run meanwhile. What fails in passing (cuts, throttling, server
    errors) is tried again for ``patience`` seconds.

    :param url: ``s3://bucket/prefix``, ``gs://``, ``az://``, ``abfss://`` or ``file:///``; keys continue it.
    :param options: credentials and the like, in the words of the Rust crate ``object_store``.
    :param environment: whether variables such as ``AWS_ACCESS_KEY_ID`` fill in what the options leave open.
    :param verify: ``False`` accepts any certificate; a path is a file of authorities to trust besides the system's.
    :param proxy: an HTTP proxy to go through; by default what the environment says.
    :raises InvalidError: the URL or an option can't be used. The bucket's existence is not looked at.
    """

    def __new__(
        cls,
        url: str,
        options: Mapping[str, str] | None = None,
        *,
        environment: bool = True,
        verify: bool | str = True,
        proxy: str | None = None,
        patience: float = 120.0,
    ) -> Self: ...
    @property
    def url(self) -> str:
        """What every key continues."""
    @property
    def way(self) -> dict[str, bool | str | None]:
        """``verify`` and ``proxy``, for a reader of its signed URLs; the proxy may hold a password."""
    def put_object(
        self,
        store: Mapping[str, Any],
        name: str,
        key: str,
        progress: Callable[[int, int], object] | None = None,
    ) -> dict[str, Any]:
        """
        Copies an object of the store, and compares what the bucket holds then with what was sent.

        :param store: how the store was opened: the arguments of :class:`airfreight._store.Store`, by name.
        :param progress: called about once a second with the bytes that have arrived, and all of them.
        :returns: ``nbytes`` and ``crc64`` (16 hexadecimal digits) of the whole file.
        :raises ConflictError: the key is another object's.
        :raises CorruptError: the bucket holds something else afterwards; it was deleted.
        """
    def get_object(
        self,
        store: Mapping[str, Any],
        name: str,
        key: str,
        expected: Mapping[str, Any] | None = None,
        progress: Callable[[int, int], object] | None = None,
    ) -> dict[str, Any]:
        """
        Copies an object into the store, under ``name``; an object of that name that is there already is as good.

        :param expected: ``nbytes`` and ``crc64``, as :meth:`put_object` returned them.
        :raises ObjectNotFoundError: the bucket has no such key.
        :raises CorruptError: what came is not the object; nothing of it is kept.
        """
    def put(self, key: str, data: bytes) -> None:
        """Writes a few bytes in place of what was there."""
    def get(self, key: str, bytes_max: int = 1048576) -> bytes | None:
        """Reads a few bytes; ``None`` where there is no such key."""
    def size(self, key: str) -> int | None:
        """The length of a key; ``None`` where there is none."""
    def list(self, prefix: str = "") -> list[dict[str, Any]]:
        """All keys below a prefix that ends with a whole part: ``key``, ``nbytes`` and ``modified_at`` (Unix time)."""
    def delete(self, key: str) -> bool:
        """Deletes a key; ``False`` where the bucket says that there was none, which S3 doesn't."""
    def sign(self, method: str, key: str, seconds: float) -> str:
        """
        A URL with which anyone may do one thing with one key, for so long.

        :param method: ``GET``, ``PUT``, ``HEAD`` or ``DELETE``.
        :raises InvalidError: a directory has no such URLs.
        """

@final
class UploadQueue:
    """
    What the agent of this host is to upload: files in the store's directory.

    :param store: how the store was opened: the arguments of :class:`airfreight._store.Store`, by name.
    """

    def __new__(cls, store: Mapping[str, Any]) -> Self: ...
    def checksum(self, name: str) -> dict[str, Any]:
        """``nbytes`` and ``crc64`` that an object's copy will have, as :meth:`Bucket.put_object` returns them."""
    def add(self, name: str, queued: str) -> None:
        """
        Puts an upload into the queue, in place of one of the same name; it is carried out however the caller ends.

        :param queued: what is to be done, as JSON.
        :raises CorruptError: it is something else.
        """
    def remove(self, name: str) -> bool:
        """Takes an upload out of the queue; ``False`` when it wasn't there."""
    def names(self) -> list[str]:
        """What waits, the oldest first."""
    @property
    def is_served(self) -> bool:
        """Whether an agent carries uploads out."""
