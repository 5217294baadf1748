"""LoRA: fine-tune a served model through low-rank adapters."""

import keras
import numpy as np

ADAPTED = (keras.layers.Dense, keras.layers.EinsumDense, keras.layers.Embedding, keras.layers.Conv2D)


def add(model: keras.Model, rank: int) -> int:
    """Freeze a model and add Keras' low-rank adapters to its kernels (Hu et al. 2021).

    A kernel of ``n x m`` gets ``rank * (n + m)`` trainable weights, unless it has no more than that itself; then, as
    with a small head, the kernel is trained directly. Biases are trained with their kernels; everything else, such as
    the moments of batch normalisation, stays frozen. Saving the weights merges the adapters, so that the export has the
    same layers as before.

    Returns:
        Number of trainable weights.

    Question: B20
    Answer: Train fewer weights and store less. LoRA freezes the weights and learns a low-rank product for each kernel,
        so gradients and optimizer state exist for only a few per cent; at export it is merged and costs nothing. You
        can add bfloat16 activations, gradient checkpointing, which recomputes in the backward pass, gradient
        accumulation, and 8-bit optimizer states. The trap: on a small model the framework takes most of the memory.
        Here a refresh trains with LoRA.
    Evidence: tour.evidence.training.lora_refresh.adapter_training
    Proof: tests/models/training/test_adapters.py::test_adapters_keep_the_answers_before_training_and_merge_on_save
    """
    for layer in model._flatten_layers(include_self=False, recursive=True):
        if list(layer._flatten_layers(include_self=False, recursive=False)):
            continue
        if isinstance(layer, ADAPTED) and layer.trainable:
            if _saves_weights(layer, rank):
                layer.enable_lora(rank)
        else:
            layer.trainable = False
    return count_trainable(model)


def count_trainable(model: keras.Model) -> int:
    return sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)


def _saves_weights(layer: keras.layers.Layer, rank: int) -> bool:
    kernel = layer.embeddings if isinstance(layer, keras.layers.Embedding) else layer.kernel
    return rank * (int(np.prod(kernel.shape[:-1])) + kernel.shape[-1]) < int(np.prod(kernel.shape))
