"""A job on Apolo with its log in Airflow, started only if the data is there: the branch looks at the storage itself."""

from __future__ import annotations

from airflow.sdk import dag, task

from airfreight.operators.apolo import ApoloRunOperator


@dag(schedule=None, tags=["example", "apolo"], params={"data": "storage:datasets/flights.csv"})
def apolo_train() -> None:
    @task.branch
    def look(params: dict[str, str] | None = None) -> str:
        from apolo_sdk import ResourceNotFound

        from airfreight.hooks.apolo import ApoloHook

        with ApoloHook() as hook:
            try:
                hook.run(hook.client.storage.stat(hook.parse.str_to_uri(params["data"])))
            except ResourceNotFound:
                return "prepare"
        return "train"

    prepare = ApoloRunOperator(
        task_id="prepare",
        job_image="ubuntu:24.04",
        job_command="sh -c 'echo flights > flights.csv && cat flights.csv'",
        job_resources_preset="cpu-small",
        job_volumes=["storage:datasets:/data"],
        job_detach=False,
    )
    train = ApoloRunOperator(
        task_id="train",
        job_image="image:trainer:1",
        job_command="sh -c 'for epoch in 1 2 3; do echo epoch $epoch; done'",
        job_resources_preset="gpu-small",
        job_volumes=["storage:datasets:/data:ro"],
        job_environ={"API_KEY": "secret:trainer-key"},
        job_lifespan=6 * 3600,
        job_detach=False,
        deferrable=True,
        trigger_rule="none_failed_min_one_success",
    )
    look() >> [prepare, train]
    prepare >> train


apolo_train()
