"""Hosts with networks of their own: Linux namespaces on a bridge, each with a name, addresses, a store and an agent."""

from host_home.network import Host, Network, binary, missing

__all__ = ["Host", "Network", "binary", "missing"]
