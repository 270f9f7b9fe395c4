"""Connections to what Airfreight can run work on."""
