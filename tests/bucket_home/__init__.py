"""Real servers of buckets for tests, a proxy before it that fails on demand, and an agent that uploads to them."""

from bucket_home.agent import AgentProcess
from bucket_home.faults import FaultProxy
from bucket_home.google import GoogleServer
from bucket_home.server import AZURITE, AzureServer, S3Server

__all__ = ["AZURITE", "AgentProcess", "AzureServer", "FaultProxy", "GoogleServer", "S3Server"]
