"""The shared layers, each against a formula written out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from dreamgen_jax.layers import attention, embed, norm, rope, stack


def _normal(*shape, seed=0):
  return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def test_attention_by_hand():
  q, k, v = _normal(2, 3, 2, 4), _normal(2, 5, 2, 4, seed=1), _normal(
      2, 5, 2, 4, seed=2)
  bias = _normal(1, 2, 3, 5, seed=3)
  mask = np.array([1, 1, 0, 1, 0], bool)
  found = attention.attend(q, k, v, mask, bias=bias, scale=0.3)
  for b in range(2):
    for n in range(2):
      logits = 0.3 * q[b, :, n] @ k[b, :, n].T + bias[0, n]
      weights = np.exp(logits) * mask
      weights /= weights.sum(-1, keepdims=True)
      np.testing.assert_allclose(
          found[b, :, n], weights @ v[b, :, n], atol=1e-6)


def test_attention_scales_by_the_head_dim_and_takes_bfloat16():
  q, k, v = (jnp.asarray(_normal(1, 3, 1, 16, seed=i)) for i in range(3))
  np.testing.assert_array_equal(attention.attend(q, k, v),
                                attention.attend(q, k, v, scale=0.25))
  half = attention.attend(*(y.astype(jnp.bfloat16) for y in (q, k, v)))
  assert half.dtype == jnp.bfloat16
  np.testing.assert_allclose(half.astype(jnp.float32),
                             attention.attend(q, k, v), atol=0.03)


@pytest.mark.parametrize("dtype, atol", [("float32", 1e-5), ("bfloat16", 0.03)])
def test_norms(dtype, atol):
  x = _normal(3, 8) * 2 + 1
  given = jnp.asarray(x, dtype)
  scale, bias = _normal(8, seed=1), _normal(8, seed=2)
  found = norm.RMSNorm(0.1).apply({"params": {"scale": scale}}, given)
  assert found.dtype == given.dtype
  np.testing.assert_allclose(
      found.astype(jnp.float32),
      x / np.sqrt((x ** 2).mean(-1, keepdims=True) + 0.1) * scale,
      atol=atol, rtol=atol)
  found = norm.LayerNorm(0.1, dtype=jnp.float32).apply(
      {"params": {"scale": scale, "bias": bias}}, given)
  assert found.dtype == jnp.float32
  plain = (x - x.mean(-1, keepdims=True)) / np.sqrt(
      x.var(-1, keepdims=True) + 0.1)
  np.testing.assert_allclose(found, plain * scale + bias, atol=atol * 2)
  found = norm.LayerNorm(0.1, affine=False).apply({}, x)
  np.testing.assert_allclose(found, plain, atol=1e-5)


def test_rotation_depends_on_the_distance_only():
  cos, sin = rope.grid((9,), (8,))
  q, k = _normal(1, 1, 1, 8), _normal(1, 1, 1, 8, seed=1)
  for rotate in (rope.rotate_pairs, rope.rotate_halves):
    def at(x, i, rotate=rotate):
      return rotate(x, cos[i:i + 1], sin[i:i + 1])
    np.testing.assert_allclose(np.sum(at(q, 5) * at(k, 3)),
                               np.sum(at(q, 8) * at(k, 6)), rtol=1e-5)
    assert abs(np.sum(at(q, 5) * at(k, 3))
               - np.sum(at(q, 5) * at(k, 5))) > 1e-2


def test_pairs_are_complex_numbers():
  angles = _normal(3, 2)
  x = _normal(1, 3, 1, 4)
  turned = (x[..., ::2] + 1j * x[..., 1::2]) * np.exp(1j * angles)[:, None]
  found = rope.rotate_pairs(x, np.cos(angles), np.sin(angles))
  np.testing.assert_allclose(found[..., ::2], turned.real, atol=1e-6)
  np.testing.assert_allclose(found[..., 1::2], turned.imag, atol=1e-6)
  halves = np.concatenate([x[..., ::2], x[..., 1::2]], -1)
  found = rope.rotate_halves(halves, np.cos(angles), np.sin(angles))
  np.testing.assert_allclose(
      found, np.concatenate([turned.real, turned.imag], -1), atol=1e-6)


def test_grid_is_row_major_and_split_by_axis():
  cos, sin = rope.grid((2, 3, 4), (4, 2, 2), theta=100.0)
  assert cos.shape == sin.shape == (24, 4)
  t, h, w = 1, 2, 3
  angles = [t * 1.0, t * 0.1, h * 1.0, w * 1.0]
  np.testing.assert_allclose(cos[t * 12 + h * 4 + w], np.cos(angles), rtol=1e-6)
  np.testing.assert_allclose(sin[t * 12 + h * 4 + w], np.sin(angles), rtol=1e-6)
  assert rope.wan_dims(128) == (44, 42, 42)


def test_sinusoid_conventions():
  x = np.array([0.0, 3.0], np.float32)
  angles = x[:, None] * [1, 0.1]
  np.testing.assert_allclose(
      embed.sinusoid(x, 4, ratio=100.0),
      np.concatenate([np.cos(angles), np.sin(angles)], -1), atol=1e-6)
  angles = x[:, None] * [1, 0.01]
  np.testing.assert_allclose(
      embed.sinusoid(x, 4, ratio=100.0, endpoint=True, sin_first=True),
      np.concatenate([np.sin(angles), np.cos(angles)], -1), atol=1e-6)


class _Block(nn.Module):

  @nn.compact
  def __call__(self, x, shift, missing):
    assert missing is None
    return jnp.tanh(nn.Dense(3, name="mix")(x)) + shift


class _Net(nn.Module):
  remat: str = "none"

  @nn.compact
  def __call__(self, x, shift):
    return stack.repeat(_Block(name="blocks"), x, shift, None, depth=4,
                        remat=self.remat)


@pytest.mark.parametrize("remat", ["none", "dots", "full"])
def test_stack_is_a_loop(remat):
  x, shift = _normal(2, 3), _normal(2, 3, seed=1)
  params = jax.jit(_Net().init)(jax.random.key(0), x, shift)["params"]
  kernels = params["blocks"]["mix"]["kernel"]
  assert kernels.shape == (4, 3, 3)
  assert np.any(kernels[0] != kernels[1])

  def by_hand(params):
    y = x
    for i in range(4):
      mix = jax.tree.map(lambda leaf, i=i: leaf[i], params["blocks"])
      y = _Block().apply({"params": mix}, y, shift, None)
    return jnp.sum(y ** 2)

  def stacked(params):
    return jnp.sum(_Net(remat).apply({"params": params}, x, shift) ** 2)

  program = str(jax.make_jaxpr(jax.grad(stacked))(params))
  assert ("prevent_cse=False" in program) == (remat != "none")
  assert ("remat" in program or "checkpoint" in program) == (remat != "none")
  ours = jax.jit(jax.value_and_grad(stacked))(params)
  theirs = jax.jit(jax.value_and_grad(by_hand))(params)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5,
                                                       atol=1e-6),
               ours, theirs)


def test_rotary_angles_at_positions_known_on_device():
  cos, sin = rope.grid((7,), (6,), theta=50.0)
  positions = np.array([[3, 0], [6, 2]])
  found = jax.jit(lambda places: rope.at(places, 6, theta=50.0))(positions)
  np.testing.assert_allclose(found[0], cos[positions], atol=1e-6)
  np.testing.assert_allclose(found[1], sin[positions], atol=1e-6)


class Recalls(nn.Module):
  """Adds a linear layer of x to its memory, and the memory to x."""

  @nn.compact
  def __call__(self, x, memory, factor):
    y = nn.Dense(3, use_bias=False, name="a")(x)
    memory = y if memory is None else memory + y
    return x + factor * memory, memory


@pytest.mark.parametrize("remat", ["none", "full"])
def test_blocks_with_memories_of_their_own(remat):

  class Net(nn.Module):

    @nn.compact
    def __call__(self, x, memory):
      return stack.repeat_remembering(
          Recalls(name="blocks"), x, memory, 2.0, depth=4, remat=remat)

  x, memory = jnp.asarray(_normal(2, 3)), jnp.asarray(_normal(4, 2, 3))
  params = Net().init(jax.random.key(0), x, None)
  kernels = params["params"]["blocks"]["a"]["kernel"]
  for given in (None, memory):
    out, found = Net().apply(params, x, given)
    y = x
    for i in range(4):
      own = y @ kernels[i] + (0 if given is None else given[i])
      np.testing.assert_allclose(found[i], own, atol=1e-5)
      y = y + 2 * own
    np.testing.assert_allclose(out, y, atol=1e-4)
