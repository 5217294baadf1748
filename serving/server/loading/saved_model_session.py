"""Loads a SavedModel for serving: its graph in a session, each signature one prepared call."""

import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from serving.errors import ServingError
from serving.server.loading.inlining import inline
from serving.server.signature import Call, Signature, Spec

TAG = "serve"
INIT = "__saved_model_init_op"
INIT_COLLECTIONS = ("saved_model_main_op", "legacy_init_op")
ASSETS = "saved_model_assets"
CALLER_RUNS = -1
log = logging.getLogger(__name__)


class SavedModel:
    """One loaded version.

    The graph is imported and restored by hand and not by ``tf.compat.v1.saved_model.load``, which builds a saver and
    collections in Python that serving has no use for, while requests of the version before wait.

    Attributes:
        meta: The MetaGraphDef, without its graph.
        signatures: By name.
    """

    def __init__(self, path: Path, threads: int = 1) -> None:
        """Loads; ``threads`` is how many may share one operation.

        Raises:
            ServingError: if it cannot be loaded, saying why.
        """
        import tensorflow as tf

        self.meta = _meta(path)
        graph = tf.Graph()
        with graph.as_default():
            try:
                tf.import_graph_def(inline(self.meta), name="")
            except ValueError as error:
                raise ServingError("INVALID_ARGUMENT", f"The graph of {path} cannot be read: {_first(error)}") from None
            config = tf.compat.v1.ConfigProto(inter_op_parallelism_threads=2, intra_op_parallelism_threads=threads)
            self.session = tf.compat.v1.Session(graph=graph, config=config)
            try:
                self._restore(path)
                # The protocol's names of the signature's tensors are all that is needed from here on.
                self.signatures = {
                    name: self._signature(name, one)
                    for name, one in self.meta.signature_def.items()
                    if not name.startswith("__saved_model")
                }
            except (tf.errors.OpError, ValueError, KeyError) as error:
                self.session.close()
                raise ServingError("INTERNAL", f"{path} cannot be loaded: {_first(error)}") from None
        self.meta.graph_def.Clear()

    def close(self) -> None:
        """Frees variables and tables."""
        self.signatures = {}
        self.session.close()

    def _restore(self, path: Path) -> None:
        saver = self.meta.saver_def
        variables = path / "variables" / "variables"
        if saver.restore_op_name and variables.with_suffix(".index").exists():
            self.session.run(saver.restore_op_name, {saver.filename_tensor_name: str(variables)})
        assets = {one.tensor_info.name: str(path / "assets" / one.filename) for one in self._assets()}
        for operation in self._initialisers():
            self.session.run(operation, assets)

    def _assets(self) -> Iterator[Any]:
        from tensorflow.core.protobuf import meta_graph_pb2

        yield from self.meta.asset_file_def
        for packed in self.meta.collection_def[ASSETS].any_list.value if ASSETS in self.meta.collection_def else ():
            asset = meta_graph_pb2.AssetFileDef()
            packed.Unpack(asset)
            yield asset

    def _initialisers(self) -> Iterator[str]:
        if INIT in self.meta.signature_def:
            yield from (tensor.name.split(":")[0] for tensor in self.meta.signature_def[INIT].outputs.values())
        for key in INIT_COLLECTIONS:
            yield from self.meta.collection_def[key].node_list.value if key in self.meta.collection_def else ()

    def _signature(self, name: str, definition: Any) -> Signature:
        inputs = {key: spec(tensor) for key, tensor in sorted(definition.inputs.items())}
        outputs = {key: spec(tensor) for key, tensor in sorted(definition.outputs.items())}
        call = self._call([one.tensor for one in inputs.values()], [one.tensor for one in outputs.values()])
        return Signature(name, definition.method_name, inputs, outputs, call)

    def _call(self, feeds: list[str], fetches: list[str]) -> Call:
        """A prepared call, made when it is first needed, run on the thread that calls it."""
        from tensorflow.core.protobuf import config_pb2

        options = config_pb2.CallableOptions(feed=feeds, fetch=fetches)
        # Operations that do not block run on the calling thread, without a thread pool between: a batch is small work.
        options.run_options.inter_op_thread_pool = CALLER_RUNS
        made: list[Any] = []
        making = threading.Lock()

        def call(arrays: list[np.ndarray]) -> list[np.ndarray]:
            if not made:
                with making:
                    if not made:
                        made.append(self._prepared(options))
            return run(made[0], arrays)

        return call

    def _prepared(self, options: Any) -> Any:
        make = getattr(self.session, "_make_callable_from_options", None)
        if make:
            return make(options)
        log.warning("this TensorFlow has no session callables; Session.run is used, which is slower")
        feeds, fetches = list(options.feed), list(options.fetch)
        return lambda *arrays: self.session.run(fetches, dict(zip(feeds, arrays, strict=True)))


def run(call: Any, arrays: list[np.ndarray]) -> list[np.ndarray]:
    """Calls, and turns TensorFlow's error into ours."""
    from tensorflow.errors import OpError

    try:
        return call(*arrays)
    except OpError as error:
        raise ServingError(_status(error), error.message) from None


def spec(tensor: Any) -> Spec:
    """What a TensorInfo says.

    Raises:
        ValueError: if it is no dense tensor.
    """
    import tensorflow as tf

    if tensor.WhichOneof("encoding") not in ("name", None):
        raise ValueError(f"only dense tensors can be served, not {tensor.WhichOneof('encoding')}")
    kind = tf.as_dtype(tensor.dtype)
    dims = tensor.tensor_shape
    shape = None if dims.unknown_rank else tuple(dim.size if dim.size >= 0 else None for dim in dims.dim)
    return Spec(tensor.name, np.dtype(object if kind == tf.string else kind.as_numpy_dtype), tensor.dtype, shape)


def _meta(path: Path) -> Any:
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    try:
        saved = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
    except OSError as error:
        raise ServingError("NOT_FOUND", f"Could not find SavedModel .pb at {path}: {error.strerror}") from None
    except DecodeError:
        raise ServingError("DATA_LOSS", f"Can't parse {path / 'saved_model.pb'} as binary proto") from None
    for meta in saved.meta_graphs:
        if set(meta.meta_info_def.tags) == {TAG}:
            return meta
    raise ServingError("NOT_FOUND", f"Could not find meta graph def matching supplied tags: {{ {TAG} }} in {path}")


def _status(error: Any) -> str:
    from grpc import StatusCode

    return next((one.name for one in StatusCode if one.value[0] == error.error_code), "INTERNAL")


def _first(error: Exception) -> str:
    """The line that says what is wrong, of a message that also tells where each operation was made."""
    text = str(getattr(error, "message", "") or error)
    lines = [line.strip() for line in text.rpartition("\nNode: ")[2].splitlines() if line.strip()]
    return (lines[1] if "\nNode: " in text and len(lines) > 1 else lines[0]) if lines else type(error).__name__
