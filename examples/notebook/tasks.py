"""Step 3: functions become tasks."""

import tumours
from airflow.sdk import dag, task


@dag(schedule=None)
def tumours_as_tasks():
    data = task(multiple_outputs=True)(tumours.read)()
    depth = task(tumours.choose)(data["known"])
    model = task(tumours.train)(data["known"], depth)
    task(tumours.judge)(model, data["unseen"])


tumours_as_tasks()
