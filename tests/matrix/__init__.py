"""The XCom backend on every supported version of Airflow, each in a virtual environment of its own."""
