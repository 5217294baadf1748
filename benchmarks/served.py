"""Servers that the model server is compared with: ``python -m benchmarks.served KIND PORT [MODEL]``.

- ``floor``: our HTTP layer with a fixed response and no model;
- ``fastapi``: FastAPI under uvicorn, which calls the SavedModel's signature, as is common;
- ``grpc-floor``: grpcio with a fixed response to Predict;
- ``grpc-floor-sync``: the same with grpcio's threads instead of asyncio.
"""

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ANSWER = b'{"predictions":[{"anomaly":0.1270317,"decision":0.0,"score":0.0025823812}]}'
SIGNATURE = "raw"


def main() -> None:
    """Run the server that the command line names."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    kind, port, *model = sys.argv[1:]
    KINDS[kind](int(port), *map(Path, model))


def serve_floor(port: int) -> None:
    """Serve a fixed response over our HTTP layer."""
    from serving.http import asyncio_server

    async def answer(request: asyncio_server.Request) -> asyncio_server.Response:
        return asyncio_server.Response(200, ANSWER)

    async def serve_forever() -> None:
        await asyncio_server.serve(answer, "127.0.0.1", port)
        await asyncio.Event().wait()

    asyncio_server.run(serve_forever())


def serve_fastapi(port: int, model: Path) -> None:
    """Serve with FastAPI: one call of the signature per request, in FastAPI's threads."""
    import uvicorn
    from fastapi import FastAPI

    predict = load_predict(model)
    app = FastAPI()

    @app.post("/predict")
    def answer(document: dict[str, Any]) -> dict[str, Any]:
        return predict(document)

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", access_log=False)


def load_predict(model: Path) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return a function from a request to its response by the signature, as in TensorFlow's guide."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(model))
    signature = loaded.signatures[SIGNATURE]
    specs = signature.structured_input_signature[1]

    def predict(document: dict[str, Any], keep: Any = loaded) -> dict[str, Any]:
        rows = document["instances"]
        outputs = signature(
            **{name: tf.constant([row[name] for row in rows], spec.dtype) for name, spec in specs.items()}
        )
        plain = {name: value.numpy().tolist() for name, value in outputs.items()}
        return {"predictions": [dict(zip(plain, row, strict=True)) for row in zip(*plain.values(), strict=True)]}

    return predict


def _make_fixed_response() -> Any:
    from tensorflow_serving.apis import predict_pb2

    from serving.server.conversion import tensor_protos

    response = predict_pb2.PredictResponse()
    response.model_spec.name = "fraud"
    import numpy as np

    for name in ("anomaly", "decision", "score"):
        tensor_protos.to_proto(response.outputs[name], np.zeros(1, np.float32))
    return response


def serve_grpc_floor(port: int) -> None:
    """Serve a fixed response with grpcio on asyncio: messages are parsed and written, without a model."""
    import grpc
    from tensorflow_serving.apis import prediction_service_pb2_grpc

    response = _make_fixed_response()

    class Service(prediction_service_pb2_grpc.PredictionServiceServicer):
        async def Predict(self, request: Any, context: Any) -> Any:
            return response

    async def serve_forever() -> None:
        server = grpc.aio.server()
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Service(), server)
        server.add_insecure_port(f"127.0.0.1:{port}")
        await server.start()
        await server.wait_for_termination()

    from serving.http import asyncio_server

    asyncio_server.run(serve_forever())


def serve_grpc_floor_sync(port: int) -> None:
    """Serve a fixed response with grpcio on threads: messages are parsed and written, without a model."""
    from concurrent.futures import ThreadPoolExecutor

    import grpc
    from tensorflow_serving.apis import prediction_service_pb2_grpc

    response = _make_fixed_response()

    class Service(prediction_service_pb2_grpc.PredictionServiceServicer):
        def Predict(self, request: Any, context: Any) -> Any:
            return response

    server = grpc.server(ThreadPoolExecutor(8))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Service(), server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    server.wait_for_termination()


KINDS: dict[str, Callable[..., None]] = {
    "floor": serve_floor,
    "fastapi": serve_fastapi,
    "grpc-floor": serve_grpc_floor,
    "grpc-floor-sync": serve_grpc_floor_sync,
}

if __name__ == "__main__":
    main()
