"""Loads a SavedModel for serving: its graph in a session, and one prepared call per signature."""

import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from serving.server.loading.inlining import inline_functions
from serving.server.signature import Call, Signature, TensorSpec
from serving.status_errors import ServingError

TAG = "serve"
INIT = "__saved_model_init_op"
INIT_COLLECTIONS = ("saved_model_main_op", "legacy_init_op")
ASSETS = "saved_model_assets"
CALLER_RUNS = -1
log = logging.getLogger(__name__)


class SavedModelSession:
    """A loaded SavedModel.

    The graph is imported and restored directly, not by ``tf.compat.v1.saved_model.load``. That function builds a saver and
    collections in Python which serving does not need, and delays requests to the previous version meanwhile.

    Attributes:
        meta: The MetaGraphDef, without its graph.
        signatures: Signatures by name.
    """

    def __init__(self, path: Path, threads: int = 1) -> None:
        """Load a SavedModel; ``threads`` is the number of threads inside an operation.

        Raises:
            ServingError: if it cannot be loaded; the message gives the reason.
        """
        import tensorflow as tf

        self.meta = _read_meta_graph(path)
        graph = tf.Graph()
        with graph.as_default():
            try:
                tf.import_graph_def(inline_functions(self.meta), name="")
            except ValueError as error:
                raise ServingError(
                    "INVALID_ARGUMENT", f"The graph of {path} cannot be read: {_first_line(error)}"
                ) from None
            config = tf.compat.v1.ConfigProto(inter_op_parallelism_threads=2, intra_op_parallelism_threads=threads)
            self.session = tf.compat.v1.Session(graph=graph, config=config)
            try:
                self._restore(path)
                # From here on, only the names of the signatures' tensors are needed, not the graph.
                self.signatures = {
                    name: self._create_signature(name, definition)
                    for name, definition in self.meta.signature_def.items()
                    if not name.startswith("__saved_model")
                }
            except (tf.errors.OpError, ValueError, KeyError) as error:
                self.session.close()
                raise ServingError("INTERNAL", f"{path} cannot be loaded: {_first_line(error)}") from None
        self.meta.graph_def.Clear()

    def close(self) -> None:
        """Free the session with its variables and tables."""
        self.signatures = {}
        self.session.close()

    def _restore(self, path: Path) -> None:
        saver = self.meta.saver_def
        variables = path / "variables" / "variables"
        if saver.restore_op_name and variables.with_suffix(".index").exists():
            self.session.run(saver.restore_op_name, {saver.filename_tensor_name: str(variables)})
        assets = {asset.tensor_info.name: str(path / "assets" / asset.filename) for asset in self._assets()}
        for operation in self._init_operations():
            self.session.run(operation, assets)

    def _assets(self) -> Iterator[Any]:
        from tensorflow.core.protobuf import meta_graph_pb2

        yield from self.meta.asset_file_def
        for packed in self.meta.collection_def[ASSETS].any_list.value if ASSETS in self.meta.collection_def else ():
            asset = meta_graph_pb2.AssetFileDef()
            packed.Unpack(asset)
            yield asset

    def _init_operations(self) -> Iterator[str]:
        if INIT in self.meta.signature_def:
            yield from (tensor.name.split(":")[0] for tensor in self.meta.signature_def[INIT].outputs.values())
        for key in INIT_COLLECTIONS:
            yield from self.meta.collection_def[key].node_list.value if key in self.meta.collection_def else ()

    def _create_signature(self, name: str, definition: Any) -> Signature:
        inputs = {key: to_tensor_spec(tensor) for key, tensor in sorted(definition.inputs.items())}
        outputs = {key: to_tensor_spec(tensor) for key, tensor in sorted(definition.outputs.items())}
        call = self._create_call(
            [value.tensor for value in inputs.values()], [value.tensor for value in outputs.values()]
        )
        return Signature(name, definition.method_name, inputs, outputs, call)

    def _create_call(self, feeds: list[str], fetches: list[str]) -> Call:
        """Create a call that is prepared on first use and runs on the calling thread."""
        from tensorflow.core.protobuf import config_pb2

        options = config_pb2.CallableOptions(feed=feeds, fetch=fetches)
        # Non-blocking operations run on the calling thread, without a thread pool, because a batch is little work.
        options.run_options.inter_op_thread_pool = CALLER_RUNS
        prepared: list[Any] = []
        lock = threading.Lock()

        def call(arrays: list[np.ndarray]) -> list[np.ndarray]:
            if not prepared:
                with lock:
                    if not prepared:
                        prepared.append(self._prepare(options))
            return run_call(prepared[0], arrays)

        return call

    def _prepare(self, options: Any) -> Any:
        make = getattr(self.session, "_make_callable_from_options", None)
        if make:
            return make(options)
        log.warning("this TensorFlow version has no session callables; using Session.run, which is slower")
        feeds, fetches = list(options.feed), list(options.fetch)
        return lambda *arrays: self.session.run(fetches, dict(zip(feeds, arrays, strict=True)))


def run_call(call: Any, arrays: list[np.ndarray]) -> list[np.ndarray]:
    """Run a prepared call; convert a TensorFlow error to a ServingError."""
    from tensorflow.errors import OpError

    try:
        return call(*arrays)
    except OpError as error:
        raise ServingError(_status_name(error), error.message) from None


def to_tensor_spec(tensor: Any) -> TensorSpec:
    """Convert a ``TensorInfo`` to a spec.

    Raises:
        ValueError: if it is not a dense tensor.
    """
    import tensorflow as tf

    if tensor.WhichOneof("encoding") not in ("name", None):
        raise ValueError(f"only dense tensors can be served, not {tensor.WhichOneof('encoding')}")
    kind = tf.as_dtype(tensor.dtype)
    dims = tensor.tensor_shape
    shape = None if dims.unknown_rank else tuple(dim.size if dim.size >= 0 else None for dim in dims.dim)
    return TensorSpec(tensor.name, np.dtype(object if kind == tf.string else kind.as_numpy_dtype), tensor.dtype, shape)


def _read_meta_graph(path: Path) -> Any:
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    try:
        saved_model = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
    except OSError as error:
        raise ServingError("NOT_FOUND", f"Could not find SavedModel .pb at {path}: {error.strerror}") from None
    except DecodeError:
        raise ServingError("DATA_LOSS", f"Can't parse {path / 'saved_model.pb'} as binary proto") from None
    for meta in saved_model.meta_graphs:
        if set(meta.meta_info_def.tags) == {TAG}:
            return meta
    raise ServingError("NOT_FOUND", f"Could not find meta graph def matching supplied tags: {{ {TAG} }} in {path}")


def _status_name(error: Any) -> str:
    from grpc import StatusCode

    return next((code.name for code in StatusCode if code.value[0] == error.error_code), "INTERNAL")


def _first_line(error: Exception) -> str:
    """Return the line with the reason from a message that also lists where each operation was created."""
    text = str(getattr(error, "message", "") or error)
    lines = [line.strip() for line in text.rpartition("\nNode: ")[2].splitlines() if line.strip()]
    return (lines[1] if "\nNode: " in text and len(lines) > 1 else lines[0]) if lines else type(error).__name__
