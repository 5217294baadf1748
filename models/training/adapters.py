"""LoRA: a served model refined through a few weights beside those it has."""

import keras
import numpy as np

ADAPTED = (keras.layers.Dense, keras.layers.EinsumDense, keras.layers.Embedding, keras.layers.Conv2D)


def add(model: keras.Model, rank: int) -> int:
    """Freezes a model and puts low-rank adapters, Keras' own, beside its kernels (Hu et al. 2021).

    A kernel of ``n x m`` gets ``rank * (n + m)`` weights to learn, unless that were no fewer than its own; then, as with a
    small head, it is learnt as it is. Biases stay with their kernels; all else, such as the moments of batch normalisation,
    is left as it was. Saving the weights merges the adapters, so what is exported has the layers it always had.

    Returns:
        How many weights are left to train.

    Question: B20
    Answer: Train little and store little. LoRA keeps the weights frozen and learns a low-rank product beside each kernel, so
        gradients and optimizer state exist for a few per cent; at export it is merged and costs nothing. Beside it:
        bfloat16 activations, gradient checkpointing (recompute in the backward pass), gradient accumulation (small
        microbatches), 8-bit optimizer states or a quantised base. On small models the framework itself is most of the
        memory.
    Evidence: tour.evidence.training.lora_refresh.adapters_measured
    Proof: tests/models/training/test_adapters.py::test_adapters_leave_the_answers_until_they_learn_and_merge_when_saved
    """
    for layer in model._flatten_layers(include_self=False, recursive=True):
        if list(layer._flatten_layers(include_self=False, recursive=False)):
            continue
        if isinstance(layer, ADAPTED) and layer.trainable:
            if _worth_it(layer, rank):
                layer.enable_lora(rank)
        else:
            layer.trainable = False
    return trainable(model)


def trainable(model: keras.Model) -> int:
    """Weights that training changes."""
    return sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)


def _worth_it(layer: keras.layers.Layer, rank: int) -> bool:
    kernel = layer.embeddings if isinstance(layer, keras.layers.Embedding) else layer.kernel
    return rank * (int(np.prod(kernel.shape[:-1])) + kernel.shape[-1]) < int(np.prod(kernel.shape))
