"""Prompts to ids: what is cut of long ones, and that it is said."""

import numpy as np
import pytest

from dreamgen_jax import errors
from dreamgen_jax.encoders import tokenizer


def test_long_prompts_lose_their_last_words_with_a_warning():
  words = tokenizer.train(["push the red block to the left"], 50)
  ids, mask = tokenizer.encode(words, ["push the  red block"], 5)
  assert mask.all() and ids[0, -1] == tokenizer.END_ID
  with pytest.warns(UserWarning, match="'push the red block to the left' is "
                    "too long: its last 3 tokens are cut; the model takes 5"):
    cut, mask = tokenizer.encode(words, ["push the red block to the left"], 5)
  np.testing.assert_array_equal(cut, ids)
  assert mask.all()


def test_unknown_words():
  words = tokenizer.train(["push it"], 50)
  with pytest.raises(errors.UserError, match="never saw: pull"):
    tokenizer.encode(words, ["pull it"], 5)
