"""What a job on GPUs runs: a matrix product on one of them, with whatever library the cluster's image has."""

from __future__ import annotations

import ray


@ray.remote(num_gpus=1)
def multiply(size: int) -> str:
    import torch

    matrix = torch.randn(size, size, device="cuda")
    return f"{torch.cuda.get_device_name()} gives {torch.matmul(matrix, matrix.T).trace().item():.0f}"


ray.init()
print(ray.get(multiply.remote(1000)))
