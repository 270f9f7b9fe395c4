"""Waiting for many Ray clusters on Kubernetes in one event loop."""
