"""Step 4: what is heavy goes to the cluster."""

import tumours
from airflow.sdk import dag, task


@dag(schedule=None)
def tumours_on_ray():
    data = task(multiple_outputs=True)(tumours.read)()
    depth = task.ray(num_cpus=1)(tumours.choose)(data["known"])
    model = task.ray(num_cpus=1)(tumours.train)(data["known"], depth)
    task(tumours.judge)(model, data["unseen"])


tumours_on_ray()
