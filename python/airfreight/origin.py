"""Which task instance a value belongs to."""

from __future__ import annotations

from typing import Any, NamedTuple

from airfreight.process import here


class Coordinates(NamedTuple):
    """Where an XCom row stands; a task that is not mapped has the map index -1, ``None`` means unknown."""

    dag_id: str | None
    run_id: str | None
    task_id: str | None
    map_index: int | None
    key: str | None

    def __str__(self) -> str:
        index = f"[{self.map_index}]" if self.map_index is not None and self.map_index >= 0 else ""
        run = f", run {self.run_id}" if self.run_id else ""
        return f"task {self.dag_id or '?'}.{self.task_id or '?'}{index}{run}, XCom {self.key!r}"


class Origin(NamedTuple):
    """
    Who writes a value.

    :param where: the row that will hold or name it.
    :param running: the running task instance, if it writes its own XCom; else ``None``.
    :param ti_id: the task instance's id, where Airflow tells (3.4 and later).
    :param region_id: the loop or mapped group that it runs in, likewise.
    """

    where: Coordinates
    running: Any = None
    ti_id: Any = None
    region_id: Any = None

    def owner(self) -> dict[str, Any]:
        """
        What is kept with an object, so that garbage collection can ask Airflow whether its task still exists.

        Deployments of one Unix user share a store by default, and may have DAGs and runs of the same names: each asks
        for its own objects only.
        """
        known = {name: value for name, value in self.where._asdict().items() if value is not None}
        known["deployment"] = here().deployment
        if self.running is not None:
            known["try_number"] = self.running.try_number
        if self.ti_id is not None:
            known["ti_id"] = str(self.ti_id)
        if self.region_id is not None:
            known["region"] = str(self.region_id)
        return known


def coordinates(
    dag_id: str | None, run_id: str | None, task_id: str | None, map_index: int | None, key: str | None
) -> Coordinates:
    """The place of an XCom row, as Airflow up to 3.3 names it."""
    return Coordinates(dag_id, run_id, task_id, -1 if map_index is None else map_index, key)


def origin_at(where: Coordinates) -> Origin:
    """The origin of a value whose row stands there; up to Airflow 3.3 the coordinates are all that is known."""
    running = here().task_instance
    if running is not None:
        index = -1 if running.map_index is None else running.map_index
        if (running.dag_id, running.run_id, running.task_id, index) != where[:4]:
            running = None
    return Origin(where, running)


def origin_of(coordinate: Any, key: str) -> Origin:
    """
    The origin of a value that Airflow 3.4 or later stores.

    :param coordinate: an ``XComCoordinate``. Without a task instance id, one task writes another's XCom, and whose map
        index it is is not told.
    """
    running = here().task_instance
    if running is not None and running.id != coordinate.ti_id:
        running = None
    if running is not None:
        map_index = -1 if running.map_index is None else running.map_index
    elif coordinate.ti_id is not None and coordinate.region_id is None:
        map_index = -1
    else:
        map_index = coordinate.region_index
    where = Coordinates(coordinate.dag_id, coordinate.run_id, coordinate.task_id, map_index, key)
    return Origin(where, running, coordinate.ti_id, coordinate.region_id)
