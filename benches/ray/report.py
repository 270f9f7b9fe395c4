"""The results as a page and as a picture."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any

from benches.report import figures_table, shown, table

if TYPE_CHECKING:
    from pathlib import Path

MB = 1_000_000
_OURS, _THEIRS, _NEITHER = "#1764ab", "#e07b1a", "#b9bec4"


def markdown(measured: dict[str, Any]) -> str:
    benches = measured["benches"]
    sections = [
        _head(measured),
        "## Figures to reach\n\n" + figures_table(measured["figures"]),
        *(_SECTIONS[name](found) for name, found in benches.items()),
        *(f"**{name} failed**: {error}" for name, error in measured["errors"].items()),
    ]
    return "\n\n".join(sections) + "\n"


def _head(measured: dict[str, Any]) -> str:
    machine = "\n".join(f"| {name} | {value} |" for name, value in measured["machine"].items())
    rounds = ", ".join(f"{name} {count}" for name, count in measured["rounds"].items())
    old: dict[str, list[str]] = {}
    for name, date in measured["dates"].items():
        if date != measured["date"]:
            old.setdefault(date, []).append(name)
    kept = "".join(f"\n{', '.join(names)}: {date}, on the same machine." for date, names in old.items())
    return f"""# Benchmarks of work on Ray

`{measured["command"]}`, {measured["date"]}, {measured["seconds"]} s; rounds: {rounds};
load before {measured["load_before"]:.1f}, after {measured["load_after"]:.1f} (the benchmark's own processes count).
{kept}

| machine | |
|---|---|
{machine}

Times are medians unless it says otherwise. In every round everybody takes a turn. Airflow 3.3.2 with scheduler,
triggerer, API server and LocalExecutor, Ray 2.60.0 with its dashboard, both on this machine, byte code compiled;
astro-provider-ray 0.4.0 in an Airflow of its own beside ours."""


def _ends(found: dict[str, Any]) -> str:
    rows = []
    for name, seconds in sorted(found["seconds"].items()):
        rows.append([name, shown(median(seconds)), shown(min(seconds)), shown(max(seconds))])
    text = """## From the end of the Ray job to the end of its task

*moment*: a task that ends at a moment known beforehand, by the same way; what Airflow itself needs. The job's end is
the `end_time` that Ray tells; the task's end is its `end_date`. astro looks at a job every 60 s by default."""
    return "\n\n".join([text, table(["", "median", "least", "most"], rows)])


def _crowd(found: dict[str, Any]) -> str:
    columns = ["", "processor, % of a core", "loop lag p50", "p99", "most", "at the start", "requests per s"]
    columns += ["s between lists"]
    columns += ["connections", "end noticed: p50", "most", "submit meanwhile: p50", "most", "memory, MB"]
    rows = []
    for label, one in found["crowds"].items():
        if one.get("error"):
            rows.append([label, "**fails**", *[""] * 11, one["error"]])
            continue
        lag, traffic, between = one["lag"], one["traffic"], one["traffic"]["seconds_between_lists"]
        notice, submit = one.get("notice", {}), one.get("submit", {})
        rows.append(
            [
                label, f"{one['processor_share'] * 100:.2f}", *(shown(lag[key]) for key in ("p50", "p99", "max")),
                shown(one["start"]["lag"]["max"]), f"{traffic['requests_per_second']:.1f}",
                f"{between:.1f}" if between else "no lists",
                str(traffic["open_max"]), *(shown(notice.get(key)) for key in ("p50", "max")),
                *(shown(submit.get(key)) for key in ("p50", "max")),
                f"{one['resident_bytes'] / MB:.0f}",
            ]
        )  # fmt: skip
    text = """## One process that watches many jobs

The triggers run in one event loop, as a triggerer runs them, against a server that answers as slowly as Ray's
dashboard does (0.4 ms for each job of a list, 4 ms for any other call). *Loop lag*: how much later than wished a
coroutine goes on; *at the start*: the most while the triggers began. *Logs wanted*: every job writes a line each ten
seconds; what Airflow's logger takes for as many lines stands in the row without triggers. The coroutine costs 0.3 % of
a core itself. astro's triggers read no logs here: the server has no WebSockets."""
    return "\n\n".join([text, table(columns, rows)])


def _imports(found: dict[str, Any]) -> str:
    rows = []
    for provider, one in found["providers"].items():
        if "median" not in one:
            rows.append([provider, "**fails**", "", "", one.get("error", "")])
            continue
        middle = one["median"]
        memory = f"{middle['bytes'] / MB:.1f} MB"
        rows.append([provider, shown(middle["took"]), shown(middle["processor"]), str(len(one["modules"])), memory])
    text = "## Importing operators and decorators\n\nIn a new interpreter that has loaded `airflow.sdk`."
    return "\n\n".join([text, table(["", "time", "processor time", "new modules", "memory"], rows)])


def _memory(found: dict[str, Any]) -> str:
    rows = [
        [name, f"{one['resident'] / MB:.0f}", f"{one['private'] / MB:.0f}"] for name, one in found["median"].items()
    ]
    text = "## Memory of task processes\n\nThe most that was seen of real ones, which Airflow forks; in MB."
    return "\n\n".join([text, table(["", "resident", "private"], rows)])


def _cold(found: dict[str, Any]) -> str:
    rows = []
    for name, seconds in found["seconds"].items():
        rows.append([name, shown(median(seconds)), shown(min(seconds)), shown(max(seconds))])
    text = """## A trivial function as a Ray job, from its submission to its value

*naive script*: `import ray; ray.init(); print(…)` by the Jobs API alone, its status asked for every 20 ms; the other is
the same by Ray's own command, whose start is part of the time. `@task.ray` is timed inside its Airflow task. `true`
shows what any job costs."""
    return "\n\n".join([text, table(["", "median", "least", "most"], rows)])


def _values(found: dict[str, Any]) -> str:
    rows = []
    for name, seconds in found["seconds"].items():
        nbytes = found["nbytes"]["dashboard" if name.endswith(", dashboard") else "port"]
        rows.append([name, f"{nbytes / MB:.0f}", shown(median(seconds)), shown(min(seconds)), shown(max(seconds))])
    text = """## Values between this host and a cluster

*send*: an object of the store becomes a value in Ray; *fetch*: back into a store. Both from the call to its answer,
with every byte checked. *raw TCP*: the same bytes from one process's memory to another's over loopback, neither stored
nor checked. `ray.put` is from a driver on the same node."""
    over = found["hand_over"]
    tasks = [[name, *(shown(of(over[name])) for of in (median, min, max))] for name in over]
    memory = [[name, f"{max(grown) / MB:.0f}"] for name, grown in found["memory"].items()]
    return "\n\n".join([
        text,
        table(["", "MB", "median", "least", "most"], rows),
        "Private memory beyond what the processes had, the most of all rounds:",
        table(["", "MB"], memory),
        "A task on the runner takes 1 GB of the task before, or nothing; without the sum that it computes (*work*):",
        table(["", "median", "least", "most"], tasks),
    ])  # fmt: skip


def _checkpoint(found: dict[str, Any]) -> str:
    rows = [[name, shown(median(each)), shown(min(each)), shown(max(each))] for name, each in found["seconds"].items()]
    text = f"""## A checkpoint of {found["nbytes"] / MB:.0f} MB

To an S3 server on this host over HTTP, which keeps it in memory and compares signatures and checksums
(`benches/s3-server`). Ours is a call in a process that has started, as a task is, sends a CRC-64 with each part, and
compares the whole's; the AWS CLI signs a SHA-256 of each part. *nothing* is an empty file: what the AWS CLI takes to
start, which the figure takes off."""
    return "\n\n".join([text, table(["", "median", "least", "most"], rows)])


def _warm(found: dict[str, Any]) -> str:
    rows = []
    for name, seconds in found["seconds"].items():
        middle, p95, least, most = median(seconds), found["p95"][name], min(seconds), max(seconds)
        rows.append([name, *map(shown, (middle, p95, least, most)), str(len(seconds))])
    rates = ", ".join(f"{rate:.0f} a second over {name}" for name, rate in found["per_second"].items())
    idle = ", ".join(f"{name} {share * 100:.1f} %" for name, share in found["idle"].items())
    text = f"""## A trivial function by the runner, from its submission to its value

*Open connection*: one call after the other by one process. *Fresh process*: the first call of a process, which finds
the runner first. *First call of a DAG run*: the cluster makes its owner. 16 clients are threads of one process:
{rates}. Idle, of a core: {idle}. Starting the runner took {shown(found["start"])}."""
    return "\n\n".join([text, table(["", "median", "p95", "least", "most", "calls"], rows)])


def _logs(found: dict[str, Any]) -> str:
    rows = []
    for name, one in found["ways"].items():
        seconds = median(one["seconds"])
        rows.append(
            [
                name, shown(seconds), f"{found['bytes'] / seconds / MB:.0f}",
                shown(median(one["processor"])) if "processor" in one else "",
                f"{max(one['peak_bytes']) / MB:.0f}", f"{max(one['grown_bytes']) / MB:.1f}",
                "yes" if all(one["is_complete"]) else "**no**",
            ]
        )  # fmt: skip
    text = f"""## {found["bytes"] / MB:.0f} MB of log

The job is over; the dashboard has to send all of it. *Complete*: SHA-256 of what arrived is that of the file.
Ours reads from the agent of the job's node where it can; *by the dashboard alone* it can't, and a proxy in Python is in
between."""
    columns = ["", "time", "MB/s", "processor time", "peak memory, MB", "of it for the log", "complete"]
    return "\n\n".join([text, table(columns, rows)])


_SECTIONS = {
    "imports": _imports, "crowd": _crowd, "logs": _logs, "cold": _cold, "warm": _warm, "values": _values,
    "checkpoint": _checkpoint, "memory": _memory, "ends": _ends,
}  # fmt: skip


def chart(measured: dict[str, Any], path: Path) -> None:
    """A panel for each bench; shorter is better in all of them."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    panels = [panel for name, found in measured["benches"].items() for panel in _panels(name, found)]
    if not panels:
        return
    lines = -(-len(panels) // 2)
    figure, axes = plt.subplots(lines, 2, figsize=(16, 1.2 + 2.6 * lines), squeeze=False, layout="constrained")
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    for axis, (title, unit, bars) in zip(axes.flat, panels, strict=False):
        _panel(axis, title, unit, bars)
    machine = measured["machine"]
    figure.suptitle(
        "Work on Ray from Airflow (logarithmic, shorter is better)\n"
        f"{machine['cores']} cores, {machine['processor']}, Linux {machine['kernel']}, {measured['date'][:10]}",
        fontsize=13,
    )
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _panels(name: str, found: dict[str, Any]) -> list[tuple[str, str, dict[str, float]]]:
    match name:
        case "ends":
            return [("End of the Ray job to the end of its task", "s", found["median"])]
        case "crowd":
            crowds = {label: one for label, one in found["crowds"].items() if not one.get("error")}
            cpu = {label: 100 * one["processor_share"] for label, one in crowds.items()}
            lag = {label: 1e3 * one["lag"]["p99"] for label, one in crowds.items()}
            return [
                ("Watching jobs: processor time", "% of a core", cpu),
                ("Watching jobs: lag of the event loop, p99", "ms", lag),
            ]
        case "imports":
            took = {each: 1e3 * one["median"]["took"] for each, one in found["providers"].items() if "median" in one}
            return [("Importing operators and decorators", "ms", took)]
        case "memory":
            resident = {label: one["resident"] / MB for label, one in found["median"].items()}
            return [("Resident memory of a task", "MB", resident)]
        case "cold":
            return [("A trivial function as a Ray job", "s", found["median"])]
        case "values":
            return [("Values between this host and a cluster", "s", found["median"])]
        case "checkpoint":
            return [("A checkpoint of 1 GB", "s", found["median"])]
        case "warm":
            warm = {name: 1e3 * seconds for name, seconds in found["median"].items()}
            return [("A trivial function by the runner", "ms", warm)]
        case "logs":
            return [(f"{found['bytes'] / MB:.0f} MB of log", "s", found["median"])]
    return []


def _panel(axis: Any, title: str, unit: str, bars: dict[str, float]) -> None:
    for position, (label, value) in enumerate(bars.items()):
        theirs = label.startswith(("astro", "naive", "Ray's", "aws"))
        neither = label.startswith(("moment", "`true`")) or label.endswith("bash")
        axis.barh(position, value, height=0.6, color=_NEITHER if neither else _THEIRS if theirs else _OURS)
        axis.text(value * 1.05, position, f"{value:.3g} {unit}", va="center", fontsize=8)
    positive = [value for value in bars.values() if value > 0] or [1.0]
    axis.set_xscale("log")
    axis.set_xlim(min(positive) / 3, max(positive) * 5)
    axis.set_yticks(range(len(bars)), list(bars), fontsize=8.5)
    axis.invert_yaxis()
    axis.set_title(title, loc="left", fontsize=11, fontweight="bold")
    axis.grid(axis="x", color="#e3e3e3", linewidth=0.7)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
