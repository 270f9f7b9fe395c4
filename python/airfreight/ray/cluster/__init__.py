"""What runs inside a Ray cluster: the runner, the owners of values, the calls. Shipped as ``airfreight_cluster``."""
