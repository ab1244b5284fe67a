"""What the TFDS builders of this package have in common."""

import tensorflow_datasets as tfds

from experiments.data.splits import Shape


def describe(
    builder: tfds.core.DatasetBuilder, description: str, shape: Shape, homepage: str
) -> tfds.core.DatasetInfo:
    """Returns the information on a set of images of one shape, as PNG, with one label each."""
    return tfds.core.DatasetInfo(
        builder=builder,
        description=description,
        features=tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(shape=shape, encoding_format="png"),
                "label": tfds.features.ClassLabel(),
            }
        ),
        supervised_keys=("image", "label"),
        homepage=homepage,
    )
