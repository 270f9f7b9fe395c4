"""A real S3 server for tests, and a proxy before it that fails on demand."""

from bucket_home.faults import FaultProxy
from bucket_home.server import S3Server

__all__ = ["FaultProxy", "S3Server"]
