"""The gRPC backend against external TensorFlow Serving servers."""

import asyncio

import numpy as np
import pytest
from support.gateway_case import run

from serving.gateway.model_calls.backend import GrpcBackend
from serving.status_errors import ServingError


def test_remote_backend_decodes_outputs_and_maps_errors():
    """The server uses the official gRPC stubs."""
    import grpc.aio
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    class Server(prediction_service_pb2_grpc.PredictionServiceServicer):
        async def Predict(self, request, context):
            rows = tf.make_ndarray(request.inputs["examples"])
            if rows[0] == b"slow":
                await asyncio.sleep(5)
            if rows[0] == b"bad":
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "cannot parse")
            reply = predict_pb2.PredictResponse()
            reply.model_spec.version.value = request.model_spec.version.value or 7
            lengths = np.array([len(row) for row in rows], np.float32)
            # A server may send numbers as packed bytes or as a list.
            reply.outputs["score"].CopyFrom(tf.make_tensor_proto(lengths))
            reply.outputs["wide"].CopyFrom(tf.make_tensor_proto(np.stack([lengths, lengths], 1)))
            reply.outputs["same"].CopyFrom(tf.make_tensor_proto(2.0, shape=[len(rows)]))
            listed = reply.outputs["listed"]
            listed.dtype = 1
            listed.float_val.extend(lengths.tolist())
            listed.tensor_shape.dim.add(size=len(rows))
            return reply

    async def work():
        server = grpc.aio.server()
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Server(), server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        backend = GrpcBackend(f"127.0.0.1:{port}")
        result = await backend.predict("fraud", [b"a", b"bcd"], None, 20.0)
        assert result.version == 7 and result.outputs["wide"].tolist() == [[1, 1], [3, 3]]
        assert result.outputs["score"].tolist() == result.outputs["listed"].tolist() == [1, 3]
        assert result.outputs["same"].tolist() == [2, 2]
        assert (await backend.predict("fraud", [b"a"], 3, 20.0)).version == 3
        for row, timeout, status in ((b"slow", 0.2, "DEADLINE_EXCEEDED"), (b"bad", 20.0, "INVALID_ARGUMENT")):
            with pytest.raises(ServingError) as caught:
                await backend.predict("fraud", [row], None, timeout)
            assert caught.value.status == status
        await server.stop(0)
        with pytest.raises(ServingError) as caught:
            await backend.predict("fraud", [b"a"], None, 1.0)
        assert caught.value.status in ("UNAVAILABLE", "DEADLINE_EXCEEDED")
        await backend.close()

    run(work())


def test_requests_are_balanced_over_the_servers_of_one_name():
    """A headless Kubernetes Service resolves to several servers; without balancing, one would get all requests."""
    import grpc.aio
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    class Server(prediction_service_pb2_grpc.PredictionServiceServicer):
        def __init__(self, version):
            self.version = version

        async def Predict(self, request, context):
            reply = predict_pb2.PredictResponse()
            reply.model_spec.version.value = self.version
            return reply

    async def work():
        servers, ports = [grpc.aio.server() for _ in range(2)], []
        for version, server in enumerate(servers, start=1):
            prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Server(version), server)
            ports.append(server.add_insecure_port("127.0.0.1:0"))
            await server.start()
        backend = GrpcBackend(f"ipv4:127.0.0.1:{ports[0]},127.0.0.1:{ports[1]}")
        versions = {(await backend.predict("fraud", [b"a"], None, 20.0)).version for _ in range(50)}
        assert versions == {1, 2}
        await backend.close()
        for server in servers:
            await server.stop(0)

    run(work())


def test_request_waits_for_the_server_that_replaces_another():
    import grpc.aio
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    class Server(prediction_service_pb2_grpc.PredictionServiceServicer):
        async def Predict(self, request, context):
            return predict_pb2.PredictResponse()

    async def start(port):
        server = grpc.aio.server()
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Server(), server)
        port = server.add_insecure_port(f"127.0.0.1:{port}")
        await server.start()
        return server, port

    async def work():
        server, port = await start(0)
        backend = GrpcBackend(f"127.0.0.1:{port}")
        await backend.predict("fraud", [b"a"], None, 20.0)
        await server.stop(0)
        request = asyncio.ensure_future(backend.predict("fraud", [b"a"], None, 20.0))
        await asyncio.sleep(0.2)
        server, _ = await start(port)
        await request
        await backend.close()
        await server.stop(0)

    run(work())
