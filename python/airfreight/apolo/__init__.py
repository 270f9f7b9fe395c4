"""What the hooks, operators, sensors and triggers of Apolo share; nothing of it is loaded where a DAG file is read."""
