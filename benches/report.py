"""The results as a page and as a picture."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any

from benches.rounds import USE_SECONDS, USES

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_MEMCPY = "memcpy_warm"
_NOTHING = "-"
_PUT, _GET, _LIMIT = "#1764ab", "#e07b1a", "#b9bec4"


def markdown(measured: dict[str, Any]) -> str:
    sections = [
        _head(measured),
        "## Figures to reach\n\n" + figures_table(measured["figures"]),
        *(_case(measured, name) for name in measured["cases"]),
        _hot_loop(measured),
        _imports(measured),
        _peers(measured),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _head(measured: dict[str, Any]) -> str:
    machine = "\n".join(f"| {name} | {value} |" for name, value in measured["machine"].items())
    return f"""# Benchmarks

`{measured["command"]}`, {measured["date"]}, {measured["seconds"]} s, {measured["rounds"]} rounds (two fewer for 1 GB);
load before {measured["load_before"]:.1f}, after {measured["load_after"]:.1f} (the benchmark's own processes count).

| machine | |
|---|---|
{machine}

All times are medians. In every round every peer takes its turn, each round beginning with another one, so that
whatever else the machine did met all of them. The process that puts is never the one that gets.

**New process**: forked from one that has imported Airflow (and its backend, for backends; nothing in the environments
of vineyard and Ray), as an Airflow worker forks each task. It imports numpy, pandas and pyarrow itself, as a DAG file
does (`tests/xcom/test_airflow.py` looks at a real worker), and makes the value, before the clock starts. *Connect* is
opening the store or reaching the server; *put* ends when another process may get; *get* ends with the value in hand,
*+ read* once all of it was read. Importing the client's own modules is timed apart. **New interpreter**: the same, but
started rather than forked. **Warm process**: connected long ago, the same again and again.

Servers run, and every store that puts values where deleted ones were has held up to {USES} of that kind before the
clock starts, fewer where they take longer than {USE_SECONDS:g} s: it has been in use for a while. *Airfreight* then has
a warm segment, whose pages the kernel has made huge ones one by one; *Airfreight, new store* hasn't even a folder yet.
Before a new process puts anything, it has touched and given back as much free memory as the value takes: a virtual
machine's host may have taken it away, and would be what is measured. *Memory from the host* goes without."""


def figures_table(figures: list[dict[str, Any]]) -> str:
    """What was to be reached, beside what was measured."""
    rows = []
    for figure in figures:
        value, target = figure["measured"], figure["target"]
        if value is None:
            text, met = _NOTHING, "not measured"
        else:
            text = f"{_number(value)} {figure['unit']}"
            met = "met" if (value <= target if figure["is_most"] else value >= target) else "**not met**"
        bound = "≤" if figure["is_most"] else "≥"
        rows.append([figure["name"], f"{bound} {target:g} {figure['unit']}", text, met])
    return table(["figure", "target", "measured", ""], rows)


def _case(measured: dict[str, Any], name: str) -> str:
    case = measured["cases"][name]
    memcpy = _median(case["new"].get(_MEMCPY), "put")
    title = f"## {case['label']}"
    if memcpy is not None:
        title += f"\n\nOne thread copies as many bytes into warm pages in {shown(memcpy)}."
    return "\n\n".join([title, _times(measured, case, memcpy), *_interpreter(case), *_memory(measured, case)])


def _interpreter(case: dict[str, Any]) -> list[str]:
    series = case["interpreter"].get("airfreight")
    if not series or series["error"]:
        return []
    connect, put, get = (shown(_median(series, step)) for step in ("connect", "put", "get"))
    text = f"Airfreight connects in {connect}, puts in {put}, gets in {get}."
    return [f"In new interpreters instead of forked processes, {text}"]


def _times(measured: dict[str, Any], case: dict[str, Any], memcpy: float | None) -> str:
    columns = ["", "new: connect", "put", "÷ memcpy", "both", "get", "connect, get", "+ read", "import"]
    columns += ["warm: put", "÷ memcpy", "get", "+ read", ""]
    rows = []
    for peer, new in case["new"].items():
        label = measured["peers"][peer]["label"]
        warm = case["warm"].get(peer, {"times": {}, "error": None})
        if new["error"]:
            rows.append([label, "**fails**", *[""] * 11, new["error"]])
            continue
        both = _median(new, "connect_put")
        warm_put = _median(warm, "put")
        if measured["peers"][peer]["is_limit"]:
            put = _median(new, "put")
            rows.append([f"*{label}*", "", shown(put), _ratio(put, memcpy), *[""] * 5, shown(warm_put), "", "", "", ""])
            continue
        cells = [
            shown(_median(new, "connect")),
            shown(_median(new, "put")),
            _ratio(both, memcpy),
            shown(both),
        ]
        cells += [shown(_median(new, step)) for step in ("get", "connect_get", "connect_get_touch", "load")]
        cells += [shown(warm_put), _ratio(warm_put, memcpy)]
        cells += [shown(_median(warm, step)) for step in ("get", "get_touch")]
        rows.append([label, *cells, f"changed: {new['changed']}" if new["changed"] else "exact"])
    rows += [[one["label"], "missing", *[""] * 11, one["missing"]] for one in _missing(measured)]
    return table(columns, rows)


def _memory(measured: dict[str, Any], case: dict[str, Any]) -> list[str]:
    if not case.get("memory"):
        return []
    rows = []
    for peer, memory in case["memory"].items():
        shares = (
            _NOTHING if memory.get(key) is None else f"{memory[key] / case['nbytes']:.3f}"
            for key in ("put_private_bytes_max", "get_private_bytes_max", "store_bytes")
        )
        label = measured["peers"][peer]["label"]
        rows.append([label, "**fails**", "", ""] if "error" in memory else [label, *shares])
    columns = ["memory ÷ the value's size", "putting process, peak", "getting process, peak", "store"]
    return [table(columns, rows)]


def _hot_loop(measured: dict[str, Any]) -> str:
    rows = [
        [measured["peers"][peer]["label"], *(shown(_median(series, step)) for step in ("put", "get"))]
        for peer, series in measured["hot_loop"].items()
        if not series["error"]
    ]
    if not rows:
        return ""
    about = "The store alone is given the value's pickle and gives it back; all others pickle it each time."
    return f"## 1 KB dict, hot loop\n\n{about}\n\n" + table(["", "put", "get"], rows)


def _imports(measured: dict[str, Any]) -> str:
    rows = []
    for module, found in measured["imports"].items():
        if found.get("error"):
            rows.append([f"`{module}`", "**fails**", "", found["error"]])
        else:
            processor = median(found["processor"])
            rows.append([f"`{module}`", shown(found["median"]), shown(processor), str(len(found["modules"]))])
    if not rows:
        return ""
    text = "## Imports\n\nEach in a new interpreter that has imported Airflow.\n\n"
    return text + table(["", "time", "processor time", "new modules"], rows)


def _peers(measured: dict[str, Any]) -> str:
    rows = []
    for one in measured["peers"].values():
        if not one["is_limit"]:
            versions = ", ".join(f"{name} {version}" for name, version in one["versions"].items())
            rows.append([one["label"], versions or f"missing: {one['missing']}"])
    return "## Versions\n\n" + table(["", ""], rows)


def _missing(measured: dict[str, Any]) -> Iterable[dict[str, Any]]:
    return (one for one in measured["peers"].values() if one["missing"] and not one["is_limit"])


def chart(measured: dict[str, Any], path: Path) -> None:
    """One panel for each value: what a new process needs to put and to get, connecting included."""
    import matplotlib as mpl
    import matplotlib.patches

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    names = list(measured["cases"])
    shown = [_shown(measured, measured["cases"][name]) for name in names]
    heights = [0.9 + 0.34 * max(len(peers) for peers in shown[row : row + 2]) for row in range(0, len(names), 2)]
    figure, axes = plt.subplots(
        len(heights), 2, figsize=(16, 1.3 + sum(heights)), squeeze=False, layout="constrained", height_ratios=heights
    )
    for axis in axes.flat[len(names) :]:
        axis.set_visible(False)
    for axis, name, peers in zip(axes.flat, names, shown, strict=False):
        _panel(axis, measured, measured["cases"][name], peers)
    meanings = {"put": _PUT, "get": _GET, "the machine's own limits": _LIMIT}
    handles = [mpl.patches.Patch(color=color) for color in meanings.values()]
    figure.legend(handles, list(meanings), loc="outside lower center", ncols=3, fontsize=11, frameon=False)
    machine = measured["machine"]
    figure.suptitle(
        "A value between two new processes, connecting included: median time (logarithmic, shorter is better)\n"
        f"{machine['cores']} cores, {machine['processor']}, Linux {machine['kernel']}, {measured['date'][:10]}",
        fontsize=13,
    )
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _shown(measured: dict[str, Any], case: dict[str, Any]) -> list[str]:
    missing = [name for name, one in measured["peers"].items() if one["missing"] and not one["is_limit"]]
    return [*(peer for peer in case["new"] if peer != "airfreight_without_preview"), *missing]


def _panel(axis: Any, measured: dict[str, Any], case: dict[str, Any], peers: list[str]) -> None:
    labels, largest, smallest = [], 1e-5, 1e-6
    for position, peer in enumerate(peers):
        known = measured["peers"][peer]
        labels.append(known["label"])
        series = case["new"].get(peer)
        if known["missing"] or series is None or series["error"]:
            text = f"missing: {known['missing']}" if known["missing"] else f"fails: {(series or {}).get('error')}"
            axis.text(
                0.01, position, text[:70], transform=axis.get_yaxis_transform(), va="center", fontsize=8, color="#a33"
            )
            continue
        alpha = 1.0 if peer.startswith("airfreight") or known["is_limit"] else 0.55
        bars = [("connect_put", -0.2, _LIMIT if known["is_limit"] else _PUT), ("connect_get", 0.2, _GET)]
        if known["is_limit"]:
            bars = [("put", 0.0, _LIMIT)]
        for step, offset, color in bars:
            seconds = _median(series, step)
            if seconds is not None:
                axis.barh(position + offset, seconds, height=0.38, color=color, alpha=alpha)
                axis.text(seconds * 1.06, position + offset, shown(seconds), va="center", fontsize=7.5)
                largest = max(largest, seconds)
    axis.set_xscale("log")
    axis.set_xlim(smallest * 5, largest * 6)
    axis.set_yticks(range(len(labels)), labels, fontsize=8.5)
    for tick, peer in zip(axis.get_yticklabels(), peers, strict=True):
        tick.set_fontweight("bold" if peer.startswith("airfreight") else "normal")
    axis.set_ylim(len(peers) - 0.4, -0.6)
    axis.set_title(case["label"], loc="left", fontsize=11, fontweight="bold")
    axis.xaxis.set_major_formatter(lambda seconds, _: shown(seconds))
    axis.grid(axis="x", color="#e3e3e3", linewidth=0.7)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)


def table(columns: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def _median(series: dict[str, Any] | None, step: str) -> float | None:
    values = (series or {}).get("times", {}).get(step)
    return median(values) if values else None


def _ratio(one: float | None, other: float | None) -> str:
    return "" if one is None or not other else _number(one / other)


def shown(seconds: float | None) -> str:
    """A time as people say it."""
    if seconds is None:
        return ""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{_number(seconds / size)} {unit}"
    return f"{seconds * 1e6:.1f} µs"


def _number(value: float) -> str:
    """Three digits, and no more than anybody would believe."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
