"""Tasks that end at a moment known beforehand: what Airflow itself needs from then until they have ended."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.triggers.base import BaseTrigger, TriggerEvent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class MomentTrigger(BaseTrigger):
    """
    Fires at a moment. Airflow's own DateTimeTrigger looks at the clock once a second, so it may be that late.

    :param moment: Unix time.
    """

    def __init__(self, moment: float) -> None:
        super().__init__()
        self.moment = moment

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return "benches.ray.moment.MomentTrigger", {"moment": self.moment}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        await asyncio.sleep(max(0.0, self.moment - time.time()))
        yield TriggerEvent({"moment": self.moment})


class WaitForMoment(BaseOperator):
    """
    Waits some seconds, and pushes as ``moment`` when they were over.

    :param seconds: how many; a template.
    :param deferrable: wait in the triggerer.
    """

    template_fields = ("seconds",)

    def __init__(self, *, seconds: str, deferrable: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.seconds = seconds
        self.deferrable = deferrable

    def execute(self, context: Any) -> None:
        moment = time.time() + float(self.seconds)
        context["ti"].xcom_push(key="moment", value=moment)
        if self.deferrable:
            self.defer(trigger=MomentTrigger(moment), method_name="resume")
        time.sleep(max(0.0, moment - time.time()))

    def resume(self, context: Any, event: dict[str, Any]) -> None:
        """The trigger has fired."""
