"""Values of any size between Airflow tasks, through shared memory."""
