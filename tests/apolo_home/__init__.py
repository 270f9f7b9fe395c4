"""An Apolo platform for tests: the official SDK accepts it, and it runs jobs as processes of this host."""

from apolo_home.server import VENV, Platform

__all__ = ["VENV", "Platform"]
