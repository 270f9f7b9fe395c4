"""What work on a Ray cluster costs from Airflow: through Airfreight, beside astro-provider-ray and Ray's own client."""
