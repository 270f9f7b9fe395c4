"""What the demo shows while it works: steps with their time, bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Outside of a terminal there is no width to ask for, and lines should not be broken.
PLAIN_WIDTH = 150


class Step:
    """One step while it runs; told how far it is."""

    def update(self, done: int, total: int, detail: str) -> None:
        """Show how far the step is, and what it is doing."""


class _Bar(Step):
    def __init__(self, progress: Progress, name: str) -> None:
        self._progress = progress
        self._task = progress.add_task(name, total=None, detail="")

    def update(self, done: int, total: int, detail: str) -> None:
        self._progress.update(self._task, completed=done, total=total, detail=detail)


class _Lines(Step):
    """A line for each thing that is done."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._shown = ""

    def update(self, done: int, total: int, detail: str) -> None:
        line = f"    {done}/{total} {detail}"
        if detail and line != self._shown:
            self._shown = line
            self._console.print(line, highlight=False, markup=False)


class Screen:
    """Where the demo prints."""

    def __init__(self) -> None:
        self.console = Console()
        if not self.console.is_terminal:
            self.console = Console(width=PLAIN_WIDTH)

    @contextmanager
    def step(self, name: str) -> Iterator[Step]:
        """Run the body as a named step; the line that stays says how long it took and whether it worked."""
        began = time.monotonic()
        try:
            if self.console.is_terminal:
                with self._progress() as progress:
                    yield _Bar(progress, name)
            else:
                self.console.print(f"  … {name}", highlight=False)
                yield _Lines(self.console)
        except BaseException:
            self._finish("[red]✗[/]", name, began)
            raise
        self._finish("[green]✓[/]", name, began)

    def _progress(self) -> Progress:
        return Progress(
            TextColumn(" "),
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[detail]}"),
            console=self.console,
            transient=True,
        )

    def _finish(self, mark: str, name: str, began: float) -> None:
        self.console.print(f"  {mark} {name}  {time.monotonic() - began:.0f} s", highlight=False)
