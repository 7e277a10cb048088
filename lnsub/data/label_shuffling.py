"""Random labels: the control in which a task has nothing to learn but the frequencies of its labels.

What two tickets share that were found on random labels, they share by the model, the head and the procedure, not by
the task (Zhang et al., 2017, https://arxiv.org/abs/1611.03530, train networks on such labels).
"""

from typing import Literal

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lnsub.data.batching import IGNORED
from lnsub.data.datasets_internals import fingerprint
from lnsub.data.drawing import Draw

Unit = Literal["row", "word"]
"""What a label belongs to: the whole row, or a word in it."""


def shuffle_labels(table: datasets.Dataset, unit: Unit, draw: Draw) -> datasets.Dataset:
    """Gives each row, or word, the label of another one of the same table, drawn at random.

    Args:
        table: tokenised rows with ``labels``.
        unit: ``row`` moves a row's labels as a whole; ``word`` moves labels between all positions that have one.
        draw: the order that they are drawn in.

    Returns:
        The rows with the same labels, each as often as before.
    """
    labels = table.data.column("labels").combine_chunks()
    if unit == "row":
        shuffled = labels.take(pa.array(draw.order(np.arange(len(labels)))))
    else:
        values = labels.flatten().to_numpy().copy()
        (places,) = (values != IGNORED).nonzero()
        values[places] = values[draw.order(places)]
        # The offsets of a slice do not begin with 0, which flatten() has taken into account.
        shuffled = pa.ListArray.from_arrays(
            pc.subtract(labels.offsets, labels.offsets[0]), pa.array(values, labels.type.value_type)
        )
    feature = table.features["labels"]
    plain = table.remove_columns("labels")
    return plain.add_column("labels", shuffled, new_fingerprint=f"{fingerprint(table)[:24]}shuffled", feature=feature)
