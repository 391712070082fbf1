"""Some episodes of a dataset, as a dataset."""

import copy
from collections.abc import Collection
from typing import TypeVar

import numpy as np

from dreamgen_jax import errors, registry
from dreamgen_jax.data import dataset as dataset_lib
from dreamgen_jax.data import shards, source

Found = TypeVar("Found", bound=dataset_lib.Dataset | source.Source)


def subset(dataset: Found, ids: Collection[str],
           without: bool = False) -> Found:
  """The dataset with only these episodes kept, or only the others.

  Nothing is written; the digest says what is left.

  Raises:
    DataError: an id that the dataset does not have, or nothing left.
  """
  unknown = sorted(set(ids) - set(dataset.ids))
  if unknown:
    raise errors.DataError(
        f"{dataset.path} has no episode {unknown[0]!r}."
        + registry.nearest(unknown[0], list(dataset.ids)))
  wanted = np.isin(list(dataset.ids), list(ids)) != without
  made = copy.copy(dataset)
  made.index = dataset.index | {"kept": dataset.index["kept"] & wanted}
  made.digest = shards.digest_of([dataset.digest, wanted.tolist()])
  if not made.index["kept"].any():
    raise errors.DataError(f"No episode of {dataset.path} is left.")
  return made
