"""Inlines a graph's functions before it is loaded, so that a call runs on the calling thread."""

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


def inline_functions(meta: Any) -> Any:
    """Return the graph of a MetaGraphDef with its functions inlined by Grappler; the original graph if that fails.

    A session does not inline the functions of TensorFlow 2. It runs each in its own executor, whose threads must be woken
    for every call.
    """
    from tensorflow.core.protobuf import config_pb2, meta_graph_pb2, rewriter_config_pb2

    config = config_pb2.ConfigProto()
    rewrite_options = config.graph_options.rewrite_options
    rewrite_options.min_graph_nodes = -1
    rewrite_options.meta_optimizer_iterations = rewrite_options.ONE
    rewrite_options.function_optimization = rewriter_config_pb2.RewriterConfig.AGGRESSIVE
    rewrite_options.optimizers.extend(PASSES)
    copy = meta_graph_pb2.MetaGraphDef()
    copy.CopyFrom(meta)
    kept_nodes = [
        tensor.name for signature in meta.signature_def.values() for tensor in signature.outputs.values() if tensor.name
    ]
    kept_nodes += [meta.saver_def.restore_op_name] if meta.saver_def.restore_op_name else []
    copy.collection_def[KEEP].node_list.value.extend(kept_nodes)
    try:
        from tensorflow.python.grappler import tf_optimizer

        graph = tf_optimizer.OptimizeGraph(config, copy)
    except Exception as error:  # a private API of TensorFlow, which may change; without it, calls are only slower
        log.warning("functions of the graph not inlined, calls will be slower: %s", error)
        return meta.graph_def
    names = {node.name for node in graph.node}
    if not all(name.split(":")[0] in names for name in _needed_tensors(meta, kept_nodes)):
        log.warning("functions of the graph not inlined, calls will be slower: Grappler removed needed nodes")
        return meta.graph_def
    for node in (*graph.node, *(node for function in graph.library.function for node in function.node_def)):
        node.attr.pop(SHAPES, None)  # outdated by the rewriting
    return graph


def _needed_tensors(meta: Any, kept_nodes: list[str]) -> list[str]:
    input_names = [
        tensor.name for signature in meta.signature_def.values() for tensor in signature.inputs.values() if tensor.name
    ]
    return [
        *kept_nodes,
        *input_names,
        *(asset.tensor_info.name for asset in meta.asset_file_def),
        meta.saver_def.filename_tensor_name or kept_nodes[0],
    ]
