"""Which tasks have checkpoints, and where: what operator, function, DAG and settings say, in this order."""

from __future__ import annotations

import logging
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from airfreight.errors import InvalidError

if TYPE_CHECKING:
    from airfreight.settings import Settings

log = logging.getLogger("airfreight.xcom")

#: Where an operator of ours keeps what it was told.
ATTRIBUTE = "airfreight_checkpoint"

#: In place of ``True``, or before a place and a colon: the agent uploads.
_LATER = "async"

_CONFIG_MEMBERS = frozenset({"checkpoint", "checkpoint_source", "reuse_checkpoint"})


class Wish(NamedTuple):
    """
    What a task was told about checkpoints.

    :param where: a URL, a connection id, or ``connection id@URL``; ``True``: where the settings say; ``False``: none.
    :param reuse: whether a checkpoint that exists takes the place of running the task.
    :param required: whether the task fails where nothing says where checkpoints go.
    :param later: whether the host's agent uploads, while tasks go on.
    """

    where: bool | str
    reuse: bool = False
    required: bool = True
    later: bool = False


class Plan(NamedTuple):
    """
    Where the values of a task are copied to.

    :param where: a URL, a connection id, or ``connection id@URL``.
    :param queued: what is left to the host's agent; ``None``: the task uploads by itself.
    """

    where: str
    reuse: bool = False
    queued: list[dict[str, Any]] | None = None


def parse(checkpoint: bool | str | None, reuse: bool = False) -> Wish | None:
    """
    The arguments ``checkpoint`` and ``reuse_checkpoint`` of a task; ``None`` when nothing was said.

    :raises InvalidError: they are something else, or don't fit each other.
    """
    if not isinstance(reuse, bool):
        raise InvalidError(f"reuse_checkpoint={reuse!r} is neither True nor False")
    if checkpoint is None:
        return Wish(True, reuse=True) if reuse else None
    if isinstance(checkpoint, str) and checkpoint.strip():
        head, colon, where = checkpoint.strip().partition(":")
        if head == _LATER and (where or not colon):
            return Wish(where or True, reuse, later=True)
        return Wish(checkpoint.strip(), reuse)
    if not isinstance(checkpoint, bool):
        raise InvalidError(
            f"checkpoint={checkpoint!r} is none of True, False, 'async', a URL and the id of a connection",
            'for example: checkpoint="s3://bucket/prefix", or checkpoint="my_aws_connection"',
        )
    if reuse and not checkpoint:
        raise InvalidError("reuse_checkpoint=True makes no sense with checkpoint=False", "leave one of them away")
    return Wish(checkpoint, reuse)


def wish_of(operator: Any) -> Wish | None:
    """What a task was told: by its operator's own argument, by ``@checkpoint`` on its function, or by its DAG."""
    for holder in (operator, getattr(operator, "python_callable", None)):
        if isinstance(wish := getattr(holder, ATTRIBUTE, None), Wish):
            return wish
    config = getattr(operator, "executor_config", None)
    ours = config.get("airfreight") if isinstance(config, dict) else None
    if ours is None:
        return None
    if not isinstance(ours, dict) or not ours.keys() <= _CONFIG_MEMBERS:
        raise InvalidError(
            f"executor_config['airfreight'] of task {getattr(operator, 'task_id', '?')} holds something else than "
            f"{', '.join(sorted(_CONFIG_MEMBERS))}",
            'for example: executor_config={"airfreight": {"checkpoint": True}}',
        )
    return parse(ours.get("checkpoint", ours.get("checkpoint_source")), ours.get("reuse_checkpoint", False))


def plan_of(operator: Any, settings: Settings | None = None) -> Plan | None:
    """
    Where the values of a task are copied to; ``None``: nowhere.

    :param operator: the running task's operator; ``None`` when it is not known who writes.
    :raises InvalidError: it is to be checkpointed, and nothing says where.
    """
    if settings is None:
        from airfreight.process import here

        settings = here().settings
    wish = wish_of(operator) if operator is not None else None
    if wish is None:
        if not settings.checkpoint_all or settings.checkpoint is None:
            return None
        wish = Wish(True)
    if wish.where is False:
        return None
    if wish.where is not True:
        return Plan(wish.where, wish.reuse, [] if wish.later else None)
    if settings.checkpoint is None:
        if not wish.required:
            _warn(str(getattr(operator, "task_id", "?")))
            return None
        raise InvalidError(
            f"task {getattr(operator, 'task_id', '?')} asks for checkpoints, and nothing says where they go",
            "set [airfreight] checkpoint, or give the task a URL or a connection id in place of True",
        )
    return Plan(settings.checkpoint, wish.reuse, [] if wish.later else None)


@cache
def _warn(task_id: str) -> None:
    """Once per task and process: there is a plan for every XCom."""
    log.warning(
        "task %s asks for a checkpoint, and none is made: set [airfreight] checkpoint to a bucket, or give the task "
        "the URL of one, or a connection id",
        task_id,
    )
