"""Shares of samples and steps in a loss."""

import numpy as np
import pytest

from dreamgen_jax.layers import chunks


@pytest.mark.parametrize(("weight", "want"), [
    (None, 2.5),
    ([1.0, 0.0], 1.5),  # of the samples
    ([[1.0, 0.0], [0.0, 3.0]], (1 + 3 * 4) / 4),  # of each one's steps
])
def test_weights_of_samples_and_of_steps(weight, want):
  error = np.array([[[1.0], [2.0]], [[3.0], [4.0]]])
  batch = {} if weight is None else {"weight": np.asarray(weight)}
  found = chunks.mean(error, np.ones_like(error), batch)
  np.testing.assert_allclose(found, want, rtol=1e-6)
