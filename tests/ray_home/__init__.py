"""
A real Ray for tests and the demo: one head node with its dashboard, in a temporary folder, stopped to the last process.

.. code-block:: python

    with RayHome.start(num_cpus=2) as ray:
        print(ray.address)  # http://127.0.0.1:…, where the Jobs API answers

Ray lives in a virtual environment of its own (``make ray``): nothing here imports it, and nothing it runs can import
Airfreight.
"""

from ray_home.home import RayHome, RayHomeError

__all__ = ["RayHome", "RayHomeError"]
