"""A first guess of the chunk, which the denoising network corrects.

Of a network that predicts clean chunks, what it says of pure noise is their
mean under the condition. A U-Net takes thousands of steps to let a condition
through to it; two layers take hundreds.
"""

import einops
import flax.linen as nn
import jax


class Guess(nn.Module):
  """Condition f32[b, ...] -> chunk f32[b, u, a].

  Attributes:
    width: of the hidden layers.
    horizon: `u`.
    action_dim: `a`.
  """

  width: int
  horizon: int
  action_dim: int

  @nn.compact
  def __call__(self, condition: jax.Array) -> jax.Array:
    x = einops.rearrange(condition, "b ... -> b (...)")
    x = jax.nn.mish(nn.Dense(self.width, name="in")(x))  # b width
    x += jax.nn.mish(nn.Dense(self.width, name="middle")(x))
    x = nn.Dense(self.horizon * self.action_dim, name="out")(x)  # b u*a
    return einops.rearrange(x, "b (u a) -> b u a", a=self.action_dim)
