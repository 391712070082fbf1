"""The codebook of latent actions: look-up, training noise, use, dead codes.

Vector quantisation by noise substitution (NSVQ, Vali and Backstroem, IEEE
Access 2022): training replaces the error of the nearest code by noise of the
same length, which gradients pass; no straight-through and no further loss.
All slots share one codebook f32[c,e] of `c` codes.
"""

import jax
import jax.numpy as jnp

from dreamgen_jax import types


def nearest(codebook: types.Array, latent: types.Array) -> types.Array:
  """Index i32[...] of the code nearest to each vector f32[...,e]."""
  distance = (jnp.sum(latent**2, -1, keepdims=True)
              - 2 * latent @ codebook.T + jnp.sum(codebook**2, -1))
  return jnp.argmin(distance, axis=-1)


def substitute(latent: types.Array, code: types.Array,
               noise: types.Array) -> types.Array:
  """Latent plus noise as long as its error; all f32[...,e]."""
  return latent + (_length(latent - code) / _length(noise) + 1e-12) * noise


def _length(x):
  """f32[...,1]; has a gradient at 0."""
  return jnp.sqrt(jnp.maximum(jnp.sum(x * x, -1, keepdims=True), 1e-24))


def usage(index: types.Array, codes: int) -> dict[str, types.Array]:
  """How a codebook is used by indices i32[b,l].

  Returns:
    Scalars. "use/code_I": share of all indices; "perplexity": exp of the
    entropy of these shares, `codes` at most; "dead": codes never used; the
    last two also for each slot alone, as "perplexity/slot_I" and
    "dead/slot_I".
  """
  by_slot = jnp.mean(jax.nn.one_hot(index, codes), axis=0)  # l c
  total = jnp.mean(by_slot, axis=0)  # c
  found = {"perplexity": _perplexity(total), "dead": jnp.sum(total == 0)}
  for slot, shares in enumerate(by_slot):
    found[f"perplexity/slot_{slot}"] = _perplexity(shares)
    found[f"dead/slot_{slot}"] = jnp.sum(shares == 0)
  return found | {
      f"use/code_{code}": total[code] for code in range(codes)}


def _perplexity(shares):
  return jnp.exp(-jnp.sum(shares * jnp.log(shares + 1e-12)))


def revive(codebook: types.Array, dead: types.Array, noise: float,
           rng: types.Array) -> types.Array:
  """Puts dead codes beside living ones.

  The first dead code goes to the first living one, and so on; where there are
  more dead than living, they are dealt out at random, evenly. With no code
  alive all stay where they are.

  Args:
    codebook: f32[c,e].
    dead: bool[c].
    noise: standard deviation of the distance from a code to its twin.
    rng: for noise and dealing.
  """
  deal_rng, noise_rng = jax.random.split(rng)
  count, alive = len(codebook), jnp.sum(~dead)
  order = jnp.argsort(dead, stable=True)  # the living first
  # As many rounds of the living as the dead need, dealt in random order.
  rounds = (count - alive) // jnp.maximum(alive, 1) + 1
  cards = jnp.where(jnp.arange(count) < alive * rounds,
                    jax.random.uniform(deal_rng, (count,)), jnp.inf)
  dealt = jnp.argsort(cards) % jnp.maximum(alive, 1)
  rank = jnp.cumsum(dead) - 1  # of a dead code among the dead
  turn = jnp.where(count - alive > alive, dealt[rank], rank)
  source = jnp.where(dead & (alive > 0), order[turn], jnp.arange(count))
  twin = codebook[source] + noise * jax.random.normal(
      noise_rng, codebook.shape)
  return jnp.where(dead[:, None], twin, codebook)
