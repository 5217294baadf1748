"""Load generator for gRPC Predict, run as a separate process.

    python -m benchmarks.load_grpc PORT AT_ONCE SECONDS < REQUEST

``REQUEST`` is a serialized ``PredictRequest``, which is sent unchanged. Prints the same JSON as ``benchmarks.load``.
"""

import asyncio
import json
import sys
import time

import grpc

METHOD = "/tensorflow.serving.PredictionService/Predict"


def main() -> None:
    """Run the load generator and print its JSON."""
    port, at_once, seconds = sys.argv[1:]
    print(json.dumps(asyncio.run(load(int(port), int(at_once), float(seconds), sys.stdin.buffer.read()))))


async def load(port: int, at_once: int, seconds: float, request: bytes) -> dict[str, float]:
    """Send requests for the given time; return rate, latencies and errors after a warm-up of one fifth of it."""
    times: list[float] = []
    wrong = 0
    started = time.perf_counter()
    warm_up_end, deadline = started + seconds / 5, started + seconds

    async def client(call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]) -> None:
        nonlocal wrong
        while (sent := time.perf_counter()) < deadline:
            try:
                await call(request)
            except grpc.aio.AioRpcError:
                wrong += 1
            if sent >= warm_up_end:
                times.append(time.perf_counter() - sent)

    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
            METHOD
        )  # without serializers the bytes are sent unchanged
        await asyncio.gather(*(client(call) for _ in range(at_once)))
    times.sort()
    if not times:
        return {"rate": 0.0, "p50": 0.0, "p99": 0.0, "wrong": wrong + 1}
    p50, p99 = (1000 * times[int(len(times) * part)] for part in (0.5, 0.99))
    return {"rate": len(times) / (deadline - warm_up_end), "p50": p50, "p99": p99, "wrong": wrong}


if __name__ == "__main__":
    main()
