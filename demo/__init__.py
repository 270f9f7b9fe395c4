"""``make demo``: the example DAG ``flights`` on a real Airflow, and what travelled between its tasks."""
