"""Evidence on a whole image run, from its examples to the answers of the served model."""

import io

import numpy as np
import tensorflow as tf

from models.data.class_names import list_classes
from tour.evidence import thresholds
from tour.evidence.context import Context, explain_missing_pictures
from tour.evidence.network import architecture
from tour.evidence.result_types import Image, Number, Result, Table
from tour.evidence.training import trainer_output

PICTURES = 6
SIDE = 96


def whole_run(context: Context) -> list[Result]:
    """B9: examples, network, loss curves, metrics, and answers with their pictures."""
    network = context.network
    if not context.case.picture:
        return [explain_missing_pictures(context)]
    (pictures,) = network.INPUTS
    confusion = thresholds.confusion_matrix(context)
    results: list[Result] = [
        _data(context),
        architecture.layers_table(architecture.served_network(context)),
        trainer_output.loss_curves(context),
        trainer_output.best_metric(context),
    ]
    if confusion:
        results.append(confusion)
    return [*results, *_answers(context, pictures)]


def _data(context: Context) -> Table:
    """Number of examples by class and split, counted in the shards."""
    label = context.network.LABEL
    classes = list_classes(context.settings["data"])
    counts = {}
    for split in ("train", "valid", "eval"):
        spec = {label: tf.io.FixedLenFeature([1], tf.int64)}
        records = tf.data.TFRecordDataset(context.shards(split)).batch(2048)
        truth = np.concatenate([tf.io.parse_example(batch, spec)[label].numpy()[:, 0] for batch in records])
        counts[split] = np.bincount(truth, minlength=len(classes))
    rows = [(name, *(int(counts[split][n]) for split in counts)) for n, name in enumerate(classes)]
    return Table(
        "Number of examples", ("class", *counts), (*rows, ("all", *(int(split.sum()) for split in counts.values())))
    )


def _answers(context: Context, pictures: str) -> list[Result]:
    """Answers of the served model to the first pictures of the eval split, and to the first misclassified one, if any."""
    network = context.network
    classes = list_classes(context.settings["data"])
    rows = context.labelled_rows("eval", 2048)
    scores = context.answer(rows)[network.SCORE]
    truth, predicted = rows[network.LABEL][:, 0], scores.argmax(axis=1)
    indices = [*range(min(PICTURES, len(truth))), *np.flatnonzero(truth != predicted)[:1]]
    images = [
        Image(
            f"true {classes[truth[n]]}, predicted {classes[predicted[n]]} with probability {scores[n].max():.3f}",
            png(rows[pictures][n]),
        )
        for n in indices
    ]
    return [
        Number("Accuracy of the served model", float(np.mean(truth == predicted)), f"on {len(truth)} pictures of eval"),
        *images,
    ]


def png(pixels: np.ndarray) -> bytes:
    """Encode pixels in 0..1, ``[height, width, channels]``, as a PNG of about ``SIDE`` pixels, so that it is visible."""
    from PIL import Image as Pillow

    values = np.rint(pixels * 255).clip(0, 255).astype(np.uint8)
    picture = Pillow.fromarray(values[..., 0] if values.shape[-1] == 1 else values)
    scale = max(1, SIDE // max(picture.size))
    stream = io.BytesIO()
    picture.resize((picture.width * scale, picture.height * scale), Pillow.Resampling.NEAREST).save(stream, "PNG")
    return stream.getvalue()
