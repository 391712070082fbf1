"""Attention of tokens on eight devices is that of one device."""

import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamgen_jax import errors, sharding
from dreamgen_jax.layers import attention

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = """
import jax, jax.numpy as jnp, numpy as np
from dreamgen_jax import sharding
from dreamgen_jax.layers import attention, rope

rng = np.random.default_rng(0)
x = rng.normal(size=(2, 320, 4, 128)).astype(np.float32)
text = rng.normal(size=(2, 7, 4, 128)).astype(np.float32)
cos, sin = rope.grid((4, 8, 10), rope.wan_dims(128))

def loss(x, text):
  x = sharding.constrain(x, "b l n k")
  y = rope.rotate_pairs(x, cos, sin)
  y = attention.attend(y, y, x) + attention.attend(x, text, text)
  return jnp.sum(jnp.sin(y)), y

def run():
  return jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(x, text)

one = run()
for sizes in ({"context": 8}, {"data": 2, "context": 2, "tensor": 2}):
  with jax.set_mesh(sharding.mesh(sizes)):
    many = run()
  for a, b in zip(jax.tree.leaves(one[0][1:]) + jax.tree.leaves(one[1]),
                  jax.tree.leaves(many[0][1:]) + jax.tree.leaves(many[1])):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
  assert many[0][1].sharding.shard_shape(x.shape)[1] < 320
"""


def test_eight_devices_attend_as_one_does():
  """Groups of four that exchange heads, two that gather; then all axes."""
  flags = ("--xla_force_host_platform_device_count=8 "
           "--xla_backend_optimization_level=0 "
           "--xla_llvm_disable_expensive_passes=true")
  done = subprocess.run(
      [sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True,
      text=True, env=os.environ | {
          "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu",
          "PYTHONPATH": str(ROOT)})
  assert not done.returncode, done.stderr[-3000:]


def test_tokens_must_divide():
  on = jax.sharding.AbstractMesh((1, 1, 8, 1), sharding.AXES)
  x = jax.ShapeDtypeStruct((1, 2052, 8, 4), jnp.float32)
  few = jax.ShapeDtypeStruct((1, 257, 8, 4), jnp.float32)
  with jax.sharding.use_abstract_mesh(on):
    assert jax.eval_shape(attention.attend, few, few, few) == few
    with pytest.raises(
        errors.ConfigError, match="2052 tokens .* context = 8; .* 1, 2, 3, 4,"):
      jax.eval_shape(attention.attend, x, x, x)


def test_what_does_not_divide_lies_whole():
  on = jax.sharding.AbstractMesh((2, 2, 4, 2), sharding.AXES)
  assert sharding.spec((4, 8, 6, 3), "b l n k", on) == sharding.P(
      ("data", "fsdp"), "context", "tensor", None)
  assert sharding.spec((2, 9, 3, 3), "b l n k", on) == sharding.P(
      None, None, None, None)
  assert np.shape(sharding.constrain(np.zeros(3), "b")) == (3,)  # no mesh
