"""Step 5: the loop becomes tasks that run at once."""

import tumours
from airflow.sdk import dag, task


@dag(schedule=None, default_args={"retries": 2})
def tumours_swept():
    data = task(multiple_outputs=True)(tumours.read)()
    tried = task.ray(num_cpus=1)(tumours.try_out).partial(known=data["known"]).expand(depth=[1, 2, 3, 4])
    depth = task(tumours.best)(tried)
    model = task.ray(num_cpus=1)(tumours.train)(data["known"], depth)
    task(tumours.judge)(model, data["unseen"])


tumours_swept()
