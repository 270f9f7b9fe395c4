"""The XCom backend of ``airflow-provider-ray``."""
