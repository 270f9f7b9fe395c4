"""A real S3 server for tests, a proxy before it that fails on demand, and an agent that uploads to it."""

from bucket_home.agent import AgentProcess
from bucket_home.faults import FaultProxy
from bucket_home.server import S3Server

__all__ = ["AgentProcess", "FaultProxy", "S3Server"]
