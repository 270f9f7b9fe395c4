"""Many readers on another host that all begin at once. The argument is a JSON object; says how long each took."""

from __future__ import annotations

import http.client
import json
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor


def main() -> None:
    wanted = json.loads(sys.argv[1])
    readers, names = wanted["readers"], wanted["names"]
    gate = threading.Barrier(readers)

    def read(number: int) -> tuple[float, int]:
        connection = http.client.HTTPConnection(wanted["host"], wanted["port"], timeout=300)
        path = f"/v1/objects/{names[number % len(names)]}"
        gate.wait()
        began = time.perf_counter()
        connection.request("GET", path, headers={"Authorization": f"Bearer {wanted['token']}"})
        answer = connection.getresponse()
        nbytes = 0
        while part := answer.read(1 << 20):
            nbytes += len(part)
        took = time.perf_counter() - began
        connection.close()
        return took, nbytes if answer.status == 200 else -answer.status

    threading.stack_size(256 * 1024)
    with ThreadPoolExecutor(readers) as pool:
        found = list(pool.map(read, range(readers)))
    print(json.dumps({"took": [took for took, _ in found], "nbytes": [nbytes for _, nbytes in found]}))


if __name__ == "__main__":
    main()
