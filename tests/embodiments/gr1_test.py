"""Tests of the GR1's description."""

from dreamgen_jax.embodiments import gr1


def test_layout_is_that_of_the_released_data():
  ends, start = {}, 0
  for key in gr1.EMBODIMENT.action:
    ends[key.name] = start, start + key.dims
    start += key.dims
  assert ends == {
      "left_arm": (0, 7), "left_hand": (7, 13), "left_leg": (13, 19),
      "neck": (19, 22), "right_arm": (22, 29), "right_hand": (29, 35),
      "right_leg": (35, 41), "waist": (41, 44)}
  assert gr1.EMBODIMENT.state_dim == gr1.EMBODIMENT.action_dim == 44
  assert [key.name for key in gr1.EMBODIMENT.state
          if key.normalize == "identity"] == ["left_leg", "neck", "right_leg"]
