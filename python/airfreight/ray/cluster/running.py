"""How an owner runs a call: options, inputs, the task itself, and what became of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from . import execution, importing, keeping, place

if TYPE_CHECKING:
    from .call import Call
    from .owner import Owner

    Record = dict[str, Any]

#: How often Ray runs a task again whose node was lost, or whose value was.
_RETRIES = 3
#: How long a function has to end after it was interrupted.
_INTERRUPT_SECONDS = 3.0
#: A package up to this size goes with the task itself.
_PACKAGE_BYTES_MAX = 64 * 1024

#: What may be asked of Ray for a call.
_OPTIONS = ("num_cpus", "num_gpus", "memory", "resources", "label_selector", "runtime_env")


class InputLost(Exception):
    """A value that a call takes isn't in the cluster any more."""


class Value:
    """
    One value of an owner.

    :param ref: Ray's reference; ``None`` for a value that is kept in parts.
    :param facts: what is told of it.
    :param keeper: the actor that keeps alive what the value refers to.
    """

    def __init__(self, ref: Any, facts: Record, keeper: Any = None) -> None:
        self.ref = ref
        self.facts = facts
        self.keeper = keeper
        self.shape: Record | None = None
        self.part_keys: list[str] = []


@lru_cache(maxsize=None)
def remote(what: str) -> Any:
    """The remote functions and actors, made when they are first used."""
    import ray

    if what == "eager":
        return ray.remote(execution.Eager)
    if what == "interrupt":
        return ray.remote(num_cpus=0, max_retries=0)(execution.interrupt)
    if what == "nothing":
        return ray.remote(num_cpus=0, max_retries=0)(execution.nothing)
    if what in ("imported", "copied", "emptied"):
        return ray.remote(getattr(importing, what))
    function = execution.call_in_parts if what.startswith("parts") else execution.call
    # A process of its own: Ray ends it after one call.
    return ray.remote(max_calls=1)(function) if what.endswith("process") else ray.remote(function)


async def run(owner: Owner, call: Call, wanted: Record) -> None:
    """Runs a call to its end."""
    import ray

    from .owner import unpacked

    shapes, inputs, names = await _inputs(owner, wanted["inputs"])
    if "uris" in wanted["parcel"]:
        packages = await asyncio.get_running_loop().run_in_executor(None, unpacked, wanted)
    else:
        packages = list(unpacked(wanted))
    # What the call is made of is an object of the owner's, so that it is there when the call is made again.
    packages = [ray.put(package) if len(package) > _PACKAGE_BYTES_MAX else package for package in packages]
    spec = {
        "id": call.id,
        "submitted": call.submitted,
        "owner": owner.name,
        "parcel": wanted["parcel"]["name"],
        "packages": len(packages),
        "shapes": shapes,
        "inline_bytes_max": wanted["inline_bytes_max"],
        "parts": wanted.get("parts") or "none",
    }
    told, values = await _submitted(call, wanted, json.dumps(spec).encode(), [*packages, *inputs], names)
    _settle(owner, call, told, values)


async def _submitted(call: Call, wanted: Record, spec: bytes, given: list[Any], names: Any) -> tuple[Record, list[Any]]:
    options = {name: value for name, value in wanted["options"].items() if name in _OPTIONS and value is not None}
    options["name"] = wanted["name"]
    fresh = wanted.get("isolation") == "process" or bool(options.get("num_gpus"))
    kind = "-process" if fresh else ""
    in_parts = (wanted.get("parts") or "none") != "none"
    if call.cancelled:
        raise InterruptedError("cancelled before it began")
    if fresh:
        # Ray would take a process that has run something, and end it only afterwards; for an environment that nobody
        # else has, it starts one.
        environment = options.get("runtime_env") or {}
        own = {**(environment.get("env_vars") or {}), "AIRFREIGHT_CALL": call.id}
        options["runtime_env"] = {**environment, "env_vars": own}
    try:
        if wanted.get("eager"):
            # What the value refers to lives as long as the value, and CPUs aren't taken for so long.
            call.actor = remote("eager").options(**{**options, "num_cpus": 0}).remote()
            work = call.actor.call_in_parts if in_parts else call.actor.call
            options = {}
        else:
            work = remote(("parts" if in_parts else "call") + kind)
            options["max_retries"] = _RETRIES
        made = work.options(num_returns="streaming" if in_parts else 2, **options).remote(spec, *given)
        call.refs = made if in_parts else list(made)
        if call.actor is not None:
            call.change(node_id=None)
            with contextlib.suppress(Exception):
                node_id, call.pid = await call.actor.where.remote()
                call.change(status="RUNNING", node_id=node_id)
        if isinstance(call.refs, list):
            return json.loads(await call.refs[0]), call.refs[1:]
        values = [value async for value in call.refs]
        return json.loads(await values[-1]), values[:-1]
    except Exception as error:
        lost = _lost_input(error, given, names)
        if lost is not None and not call.cancelled:
            raise InputLost(lost) from error
        raise


def _settle(owner: Owner, call: Call, told: Record, values: list[Any]) -> None:
    """Takes the outcome of a call that has told of it."""
    more = {name: told[name] for name in ("node_id", "log_bytes", "tail", "start_time", "end_time") if name in told}
    if "crashed" in told:
        crashed = told["crashed"]
        more["start_time"] = crashed["start_time"]
        error_type, message = _crash(crashed)
        call.finish("FAILED", error_type, message, **more)
        return
    record = told["record"]
    if call.cancelled and told["interrupted"] and "result" not in record:
        call.finish("STOPPED", "CANCELLED", "the call was cancelled", record=record, **more)
    elif "result" in record:
        if "value" in record["result"]:
            _keep(owner, call, record["result"]["value"], values)
        elif call.actor is not None:
            _end(call.actor)
        call.finish("SUCCEEDED", record=record, **more)
    else:
        if call.actor is not None:
            _end(call.actor)
        error = record.get("error") or {}
        message = record["refused"]["message"] if "refused" in record else f"{error.get('type')}: {error.get('text')}"
        call.finish("FAILED", None, message[:2000], record=record, **more)


def _keep(owner: Owner, call: Call, told: Record, values: list[Any]) -> None:
    """Takes the values of a call into the owner, and tells where they are."""
    where = {"owner": owner.name, "generation": owner.generation}
    left = iter(values)
    if told["form"] != "parts":
        owner.values[call.id] = value = Value(next(left), dict(told), call.actor)
        if told["form"] != "native" and call.actor is not None:
            # Its own bytes are the owner's.
            value.keeper = None
            _end(call.actor)
        told.update(where, key=call.id)
        return
    parts = told["parts"]
    refers = False
    for name, part in parts.items() if isinstance(parts, dict) else enumerate(parts):
        if "json" not in part:
            key = keeping.key_of(call.id, name)
            is_native = part["form"] == "native"
            owner.values[key] = Value(next(left), dict(part), call.actor if is_native else None)
            part.update(where, key=key)
            refers = refers or is_native
    if call.actor is not None and not refers:
        _end(call.actor)
    told.update(where, key=call.id)
    owner.values[call.id] = whole(call.id, told)


def whole(key: str, told: Record) -> Value:
    """The value that others are the parts of."""
    value = Value(None, told)
    value.shape = keeping.shape_of(told["parts"])
    value.part_keys = [keeping.key_of(key, name) for name, part in value.shape["parts"] if "json" not in part]
    return value


def _end(actor: Any) -> None:
    """Ends an eager actor whose value refers to nothing that it holds, after its answer has been read."""
    import ray

    ray.kill(actor, no_restart=True)


async def _inputs(owner: Owner, wanted: list[Record]) -> tuple[list[Any], list[Any], list[str]]:
    """The references of all inputs, those of other owners among them, and what each is called."""
    import ray

    shapes, refs, names = [], [], []
    for each in wanted:
        name = f"{each['owner']}/{each['key']}"
        if each["owner"] == owner.name:
            found = owner._refs(each["key"], each["generation"])
        else:
            try:
                other = ray.get_actor(each["owner"], namespace=place.NAMESPACE)
                found = (await other.refs.remote([each["key"]], each["generation"]))[0]
            except (ValueError, ray.exceptions.RayActorError):
                found = None
        if found is None:
            raise InputLost(_lost(name))
        shapes.append(found["shape"])
        refs += found["refs"]
        names += [name] * len(found["refs"])
    return shapes, refs, names


def _lost(name: str) -> str:
    return f"the value {name} is not in the cluster any more"


def _lost_input(error: Exception, given: list[Any], names: list[str]) -> str | None:
    """Which input an error is about, if it says that one is lost."""
    import ray

    cause = getattr(error, "cause", None)
    lost = error if isinstance(error, ray.exceptions.ObjectLostError) else cause
    if not isinstance(lost, ray.exceptions.ObjectLostError):
        return None
    refs = dict(zip((getattr(ref, "hex", lambda: "")() for ref in given[len(given) - len(names) :]), names))  # noqa: B905
    return _lost(refs.get(lost.object_ref_hex, ", ".join(sorted(set(names))) or "that it takes"))


def fail(call: Call, error: Exception) -> None:
    """Ends a call of which only Ray can say what became of it."""
    import ray

    kinds = ray.exceptions
    if call.cancelled:
        call.finish("STOPPED", "CANCELLED", "the call was cancelled")
        return
    for kind, error_type in (
        (kinds.TaskCancelledError, "CANCELLED"),
        (kinds.OutOfMemoryError, "OUT_OF_MEMORY"),
        (kinds.RuntimeEnvSetupError, "RUNTIME_ENV_SETUP_FAILURE"),
        (kinds.WorkerCrashedError, "WORKER_CRASHED"),
        (kinds.RayActorError, "WORKER_CRASHED"),
    ):
        if isinstance(error, kind):
            status = "STOPPED" if error_type == "CANCELLED" else "FAILED"
            call.finish(status, error_type, str(error)[:4000])
            return
    call.finish("FAILED", None, f"{type(error).__name__}: {error}"[:4000])


def _crash(crashed: Record) -> tuple[str, str]:
    kind, detail = crashed.get("exit_type", ""), crashed.get("exit_detail", "")
    if "OUT_OF_MEMORY" in kind or "memory monitor" in detail:
        return "OUT_OF_MEMORY", f"Ray has killed the function's process for lack of memory: {detail}"[:4000]
    why = f": {detail}" if detail else ""
    return "WORKER_CRASHED", f"the function has ended its process {crashed['pid']}{why}"[:4000]


async def cancel(call: Call) -> None:
    """Interrupts a call; if that doesn't help, kills its process."""
    import ray

    if call.actor is not None:
        if call.pid is not None and call.node_id:
            from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

            there = NodeAffinitySchedulingStrategy(call.node_id, soft=False)
            remote("interrupt").options(scheduling_strategy=there).remote(call.pid)
            await call.over(_INTERRUPT_SECONDS)
        if not call.is_over:
            ray.kill(call.actor, no_restart=True)
        return
    for force in (False, True):
        target = call.refs[0] if isinstance(call.refs, list) else call.refs
        if target is not None and not call.is_over:
            ray.cancel(target, force=force, recursive=True)
            await call.over(_INTERRUPT_SECONDS)
