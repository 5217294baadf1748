"""Warm-up requests: stored with a model and run before it serves, so that no client waits for slow first calls."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from serving.server.config import BatchingParameters
from serving.server.conversion import tensor_protos
from serving.server.conversion.examples import INPUT, serialize_examples
from serving.server.signature import Signature
from serving.status_errors import ServingError

FILE = "assets.extra/tf_serving_warmup_requests"
MAX_RECORDS = 1000
DEFAULT = "serving_default"


def run_warmup(path: Path, signatures: Mapping[str, Signature], batching: BatchingParameters) -> int:
    """Run the model's warm-up requests and return their number.

    The first row of each signature's first request also runs at every batch size.

    Raises:
        ServingError: if the file cannot be read or a request fails; the version is then not served.
    """
    count, warmed_signatures = 0, set()
    for record in read_records(path / FILE):
        count += 1
        if count > MAX_RECORDS:
            raise ServingError("INVALID_ARGUMENT", f"{path / FILE} has more than {MAX_RECORDS} warm-up records")
        for name, inputs in _requests(record):
            if name not in signatures:
                raise ServingError("FAILED_PRECONDITION", f'Serving signature key "{name}" not found.')
            arrays = signatures[name].arrays(inputs)
            signatures[name].call(arrays)
            if name not in warmed_signatures:
                warmed_signatures.add(name)
                _run_batch_sizes(signatures[name], arrays, batching)
    return count


def _run_batch_sizes(signature: Signature, arrays: list[np.ndarray], batching: BatchingParameters) -> None:
    if signature.batched and batching.enabled and len(arrays[0]):
        for size in sorted({batching.padded_size(rows) for rows in range(1, batching.max_batch_size + 1)}):
            signature.call([np.repeat(values[:1], size, axis=0) for values in arrays])


def _requests(record: Any) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    kind = record.WhichOneof("log_type")
    if kind == "predict_log":
        request = record.predict_log.request
        inputs = {name: tensor_protos.from_proto(name, tensor) for name, tensor in request.inputs.items()}
        yield request.model_spec.signature_name or DEFAULT, inputs
    elif kind in ("classify_log", "regress_log"):
        request = getattr(record, kind).request
        yield request.model_spec.signature_name or DEFAULT, {INPUT: serialize_examples(request.input)}
    elif kind == "multi_inference_log":
        request = record.multi_inference_log.request
        for task in request.tasks:
            yield task.model_spec.signature_name or DEFAULT, {INPUT: serialize_examples(request.input)}
    else:
        raise ServingError("UNIMPLEMENTED", f"Unsupported log_type for warm-up: {kind}")


def read_records(path: Path) -> Iterator[Any]:
    """Yield the ``PredictionLog`` messages of a TFRecord file; nothing if there is no file.

    Raises:
        ServingError: DATA_LOSS if a record is damaged or not a ``PredictionLog``.
    """
    import tensorflow as tf
    from google.protobuf.message import DecodeError
    from tensorflow_serving.apis import prediction_log_pb2

    if not path.is_file():
        return
    try:
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            yield prediction_log_pb2.PredictionLog.FromString(record)
    except (tf.errors.DataLossError, DecodeError) as error:
        raise ServingError("DATA_LOSS", f"The warm-up requests of {path} cannot be read: {error}") from None
