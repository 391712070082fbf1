"""A case in the making: numbers drawn by name, networks filled, files."""

import hashlib
import json
import math
import shutil

import numpy as np
import safetensors.torch
import torch

NORM, BIAS = 0.2, 0.2
TABLES = ("embed_tokens.weight", "shared.weight", "token_embedding.weight",
          "position_embedding.weight", "relative_attention_bias.weight")


class Case:
  """What one folder of tests/goldens will hold.

  Every number depends on the case's name and its own name alone, so a tensor
  more or less changes no other.
  """

  def __init__(self, name):
    self.name = name
    self.config, self.weights, self.inputs, self.outputs = {}, {}, {}, {}

  def _generator(self, name):
    digest = hashlib.sha256(f"{self.name}/{name}".encode()).digest()
    return np.random.default_rng(np.frombuffer(digest, np.uint64))

  def normal(self, name, *shape, scale=1.0, centre=0.0):
    """A float32 tensor whose numbers are exact in float16."""
    drawn = self._generator(name).standard_normal(shape)
    return torch.from_numpy(
        (centre + scale * drawn).astype(np.float16).astype(np.float32))

  def picture(self, name, *shape, lowest=0.0):
    """The same, evenly from `lowest` to 1."""
    drawn = self._generator(name).uniform(lowest, 1.0, shape)
    return torch.from_numpy(drawn.astype(np.float16).astype(np.float32))

  def whole(self, name, low, high, *shape):
    """An int64 tensor of numbers from low up to, without, high."""
    return torch.from_numpy(self._generator(name).integers(low, high, shape))

  def given(self, **inputs):
    """Notes the inputs, and returns them."""
    self.inputs.update(inputs)
    return inputs

  def fill(self, module, prefix="", publish=lambda name: name, quiet=()):
    """Draws all that a network stores; what it shares is kept once.

    Args:
      module: any torch module, in float32.
      prefix: in front of the names in the file.
      publish: name in the module -> name in released files.
      quiet: names (in the module) to draw at a quarter of the spread.

    Returns:
      The module, for inference.
    """
    seen = set()
    for name, tensor in module.state_dict().items():
      if tensor.data_ptr() in seen or not tensor.is_floating_point():
        continue
      seen.add(tensor.data_ptr())
      scale, centre = _spread(name, tensor)
      if name in quiet:
        scale = scale / 4
      tensor.copy_(self.normal(
          prefix + name, *tensor.shape, scale=scale, centre=centre))
      self.weights[prefix + publish(name)] = tensor.clone()
    return module.float().eval()

  def write(self, folder):
    """Writes the case, in place of what lay there; returns its bytes."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(
        json.dumps(self.config, indent=1) + "\n")
    for stem in ("weights", "inputs", "outputs"):
      tensors = {name: tensor.detach().clone().contiguous()
                 for name, tensor in getattr(self, stem).items()}
      if stem != "outputs":
        tensors = {name: _half(tensor) for name, tensor in tensors.items()}
      for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
          raise ValueError(f"{self.name}: {name} is not finite")
      if tensors:
        safetensors.torch.save_file(tensors, folder / f"{stem}.safetensors")
    return sum(file.stat().st_size for file in folder.iterdir())


def _spread(name, tensor):
  """(standard deviation, mean) of a stored tensor, by its name and shape."""
  if name.endswith(TABLES):
    return 0.7, 0.0
  if name.endswith("gamma") or (tensor.ndim == 1 and name.endswith("weight")):
    return NORM, 1.0
  if tensor.ndim > 1 and name.endswith("weight"):
    return 1 / math.sqrt(math.prod(tensor.shape[1:])), 0.0
  return BIAS, 0.0


def _half(tensor):
  """Half precision where nothing is lost."""
  if tensor.dtype == torch.float32 and torch.equal(tensor.half().float(),
                                                   tensor):
    return tensor.half()
  return tensor


def network(case, cls, kwargs, extra=None, **fill):
  """A released diffusers class with drawn parameters; notes the config."""
  case.config = {"class": cls.__name__, "kwargs": kwargs, **(extra or {})}
  return case.fill(cls(**kwargs), **fill)


def watch(module, calls, names):
  """Notes the named tensors of every call of a network."""
  def note(_, args, kwargs):
    calls.append({name: kwargs[name].clone() for name in names
                  if kwargs.get(name) is not None})

  module.register_forward_pre_hook(note, with_kwargs=True)


def keep_pipeline(case, calls, latents, video):
  """Outputs of a pipeline: each call's inputs, last latents and the video."""
  case.config["n_model_calls"] = len(calls)
  for number, call in enumerate(calls):
    for name, tensor in call.items():
      case.outputs[f"call{number}/{name}"] = tensor
  case.outputs.update(latents=latents, video=video)


def take_the_mode(vae):
  """Lets a pipeline that draws from the posterior take its mean."""
  encode = vae.encode

  def without_noise(*args, **kwargs):
    out = encode(*args, **kwargs)
    out.latent_dist.sample = lambda generator=None: out.latent_dist.mode()
    return out

  vae.encode = without_noise


def run_both(pipe, **call):
  """(last latents, video) of a pipeline run once."""
  seen = {}

  def keep(pipe, step, time, tensors):
    seen.update(tensors)
    return tensors

  pipe.set_progress_bar_config(disable=True)
  video = pipe(output_type="pt", callback_on_step_end=keep,
               callback_on_step_end_tensor_inputs=["latents"], **call).frames
  return seen["latents"], torch.as_tensor(video)
