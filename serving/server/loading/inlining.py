"""Unfolds a graph's functions before it is loaded, so that a call stays on the thread that makes it."""

import logging
from typing import Any

PASSES = (
    "function",
    "pruning",
    "constfold",
    "common_subgraph_elimination",
    "arithmetic",
    "dependency",
    "remap",
    "dependency",
)
SHAPES = "_output_shapes"
KEEP = "train_op"
log = logging.getLogger(__name__)


def inline(meta: Any) -> Any:
    """The graph of a MetaGraphDef with functions inlined by Grappler, as it was if that cannot be done.

    A session leaves the functions of TensorFlow 2 as they are, and runs each in an executor of its own, whose threads have
    to be woken for every call.
    """
    from tensorflow.core.protobuf import config_pb2, meta_graph_pb2, rewriter_config_pb2

    config = config_pb2.ConfigProto()
    rewriting = config.graph_options.rewrite_options
    rewriting.min_graph_nodes = -1
    rewriting.meta_optimizer_iterations = rewriting.ONE
    rewriting.function_optimization = rewriter_config_pb2.RewriterConfig.AGGRESSIVE
    rewriting.optimizers.extend(PASSES)
    copy = meta_graph_pb2.MetaGraphDef()
    copy.CopyFrom(meta)
    kept = [one.name for signature in meta.signature_def.values() for one in signature.outputs.values() if one.name]
    kept += [meta.saver_def.restore_op_name] if meta.saver_def.restore_op_name else []
    copy.collection_def[KEEP].node_list.value.extend(kept)
    try:
        from tensorflow.python.grappler import tf_optimizer

        graph = tf_optimizer.OptimizeGraph(config, copy)
    except Exception as error:  # it is TensorFlow's own and may change; without it all is only slower
        log.warning("the graph's functions are not inlined: %s", error)
        return meta.graph_def
    names = {node.name for node in graph.node}
    if not all(name.split(":")[0] in names for name in _needed(meta, kept)):
        log.warning("the graph's functions are not inlined: Grappler dropped what is needed")
        return meta.graph_def
    for node in (*graph.node, *(node for function in graph.library.function for node in function.node_def)):
        node.attr.pop(SHAPES, None)  # no longer true of what has been rewritten
    return graph


def _needed(meta: Any, kept: list[str]) -> list[str]:
    fed = [one.name for signature in meta.signature_def.values() for one in signature.inputs.values() if one.name]
    return [
        *kept,
        *fed,
        *(one.tensor_info.name for one in meta.asset_file_def),
        meta.saver_def.filename_tensor_name or kept[0],
    ]
