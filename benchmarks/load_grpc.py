"""A load generator for gRPC Predict in a process of its own: ``python -m benchmarks.load_grpc PORT AT_ONCE SECONDS < REQUEST``.

``REQUEST`` is a serialized ``PredictRequest``, which is sent as it is. Prints the same JSON as ``benchmarks.load``.
"""

import asyncio
import json
import sys
import time

import grpc

METHOD = "/tensorflow.serving.PredictionService/Predict"


def main() -> None:
    """The program."""
    port, at_once, seconds = sys.argv[1:]
    print(json.dumps(asyncio.run(load(int(port), int(at_once), float(seconds), sys.stdin.buffer.read()))))


async def load(port: int, at_once: int, seconds: float, request: bytes) -> dict[str, float]:
    """What was measured; the first fifth of the time is not counted."""
    times: list[float] = []
    wrong = 0
    started = time.perf_counter()
    counted, ends = started + seconds / 5, started + seconds

    async def client(call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]) -> None:
        nonlocal wrong
        while (began := time.perf_counter()) < ends:
            try:
                await call(request)
            except grpc.aio.AioRpcError:
                wrong += 1
            if began >= counted:
                times.append(time.perf_counter() - began)

    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
            METHOD
        )  # without serializers bytes pass as they are
        await asyncio.gather(*(client(call) for _ in range(at_once)))
    times.sort()
    if not times:
        return {"rate": 0.0, "p50": 0.0, "p99": 0.0, "wrong": wrong + 1}
    p50, p99 = (1000 * times[int(len(times) * part)] for part in (0.5, 0.99))
    return {"rate": len(times) / (ends - counted), "p50": p50, "p99": p99, "wrong": wrong}


if __name__ == "__main__":
    main()
