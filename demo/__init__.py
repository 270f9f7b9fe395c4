"""``make demo``: the DAGs `flights` and `flights_ray` on a real Airflow and a real Ray, and what travelled."""
