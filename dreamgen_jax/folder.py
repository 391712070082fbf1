"""Checkpoint folders of released models, whatever family they are of.

  transformer/{config.json, *.safetensors}   vae/...   text_encoder/...
  tokenizer/tokenizer.json   ...

This is the layout of the Diffusers releases. A family says in a `Family` what
its parts are called; the rest is here. Tensors stay in their files until a
device, or another file, takes them, layer by layer.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from dreamgen_jax import (
  errors,
  facts,
  interfaces,
  lazy,
  paths,
  safetensors,
  torch_file,
  weights,
)

DIALECTS = ("diffusers", "original")
_TORCH = (".pt", ".pth", ".bin")
# Files beside the parts that other programs read.
_COPIED = ("model_index.json", "scheduler", "image_processor",
           "feature_extractor")
_IGNORED = shutil.ignore_patterns("*.safetensors", *(f"*{x}" for x in _TORCH))
_PLACES = {"text": "text_encoder", "text_2": "text_encoder_2",
           "image": "image_encoder"}


@dataclasses.dataclass(frozen=True)
class Part:
  """Where a part of a model lies, and what its tensors are called.

  Attributes:
    folder: within the checkpoint's folder.
    facts: what config.json says, in the released words.
    names: dialect -> table.
    originals: patterns of its file, folder or index in its authors' layout.
  """

  folder: str
  facts: Mapping[str, Any]
  names: Mapping[str, weights.Table]
  originals: Sequence[str] = ()

  @property
  def stem(self) -> str:
    """Of the files, which follow the library that wrote them."""
    return ("model" if "architectures" in self.facts
            else "diffusion_pytorch_model")


def parts(described: Mapping[str, Mapping[str, Any]],
          names: Mapping[str, weights.Table],
          original_names: Mapping[str, weights.Table] | None = None,
          originals: Mapping[str, Sequence[str]] | None = None,
          folders: Mapping[str, str] | None = None) -> dict[str, Part]:
  """Puts together what a family says of its parts.

  Args:
    described: part -> what its config.json says.
    names, original_names: part -> table in each dialect; the second may lack
      parts, which then cannot be written in that dialect.
    originals: part -> patterns, see `Part`.
    folders: part -> folder, where it is not the usual one.
  """
  tables = dict(zip(DIALECTS, (names, original_names or {}), strict=True))
  return {
      part: Part(
          (folders or {}).get(part, _PLACES.get(part, part)), said,
          {dialect: table[part] for dialect, table in tables.items()
           if part in table}, (originals or {}).get(part, ()))
      for part, said in described.items()}


@dataclasses.dataclass(frozen=True)
class Family:
  """Reads and writes the checkpoints of one family of models.

  Attributes:
    name: for messages.
    home: the package's folder; weights that ship with it lie there.
    model: config -> Model.
    parts: config -> {part: Part}.
    read_tokenizer: path of tokenizer.json -> tokenizer.
    tokenizers: name -> the folders in which it may lie, the first of which is
      where it is written; one tokenizer stands for itself, several are a dict.
  """

  name: str
  home: pathlib.Path
  model: Callable[[Any], Any]
  parts: Callable[[Any], dict[str, Part]]
  read_tokenizer: Callable[[str], Any]
  tokenizers: Mapping[str, Sequence[str]] = dataclasses.field(
      default_factory=lambda: {"tokenizer": ("tokenizer",)})

  def locate(self, source: str | os.PathLike) -> pathlib.Path:
    """The folder of weights that ship with the package, or the one named."""
    shipped = self.home / source
    return shipped if shipped.is_dir() else pathlib.Path(source)

  def load(self, source: str | os.PathLike, config: Any,
           parts: Sequence[str] | None = None,
           sharding: Callable[[Any], Any] | None = None,
           dtype: Any = None) -> tuple[Any, interfaces.Params, Any]:
    """Reads a checkpoint.

    Args:
      source: the folder, the name of weights that ship with the package
        ("nano"), or the one file of the one part to read.
      config: the preset that the checkpoint is of; where that has latent
        statistics, they are the folder's own.
      parts: which to read; None reads all.
      sharding: parameters' shapes -> a jax Sharding for each, such as
        `functools.partial(sharding.by_rules, rules=RULES, on=mesh)`; every
        device is then filled layer by layer. None leaves numpy arrays.
      dtype: of the parameters, or part -> dtype; None is the model's own.

    Returns:
      The model, its parameters, and the tokenizer: a dict where the family
      has several; None where only `parts` were asked for, and it is not there.

    Raises:
      CheckpointError: a part is missing, damaged, or not of this preset.
    """
    found, said = self._match(source, config, parts, dtype)
    known, params = self.parts(config), {}
    for part, tree in found.items():
      flat = paths.flatten(tree)
      if sharding:
        wanted = paths.flatten(sharding({part: paths.unflatten({
            path: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
            for path, leaf in flat.items()})})[part])
      params[part] = paths.unflatten({
          path: lazy.place(leaf, wanted[path]) if sharding else leaf.read()
          for path, leaf in flat.items()})
    tokenizers = {}
    for name in self.tokenizers:
      home = self._tokenizer(source, name)
      tokenizers[name] = None if parts and not home.is_dir() else (
          self.read_tokenizer(str(home / "tokenizer.json")))
    own = {field: tuple(value) if isinstance(value, list) else value
           for key, field in facts.STATISTICS.items()
           if key in known["vae"].facts for value in [said["vae"][key]]}
    model = self.model(dataclasses.replace(
        config, vae=dataclasses.replace(config.vae, **own)))
    return model, params, (
        tokenizers if len(tokenizers) > 1 else next(iter(tokenizers.values())))

  def save(self, folder: str | os.PathLike, model: Any,
           params: interfaces.Params, tokenizer: Any,
           dtype: Any = np.float16, dialect: str = "diffusers") -> None:
    """Writes a checkpoint that `load`, and Diffusers' tools, read.

    Each part appears whole or not at all; what else lies in `folder` stays.

    Args:
      folder: where to.
      model, params, tokenizer: as `load` returns them.
      dtype: of the files; None keeps the parameters'.
      dialect: "diffusers" or "original" names.
    """
    known = self.parts(model.config)
    with _whole(pathlib.Path(folder)) as temporary:
      for part, tree in params.items():
        _write(temporary, known[part], known[part].facts,
               self._export(part, known[part], tree, dialect, dtype))
      several = len(self.tokenizers) > 1
      for name, places in self.tokenizers.items():
        (temporary / places[0]).mkdir(parents=True)
        (tokenizer[name] if several else tokenizer).save(
            str(temporary / places[0] / "tokenizer.json"))

  def convert(self, source: str | os.PathLike, output: str | os.PathLike,
              config: Any, parts: Sequence[str] | None = None,
              dialect: str = "diffusers", dtype: Any = None) -> int:
    """Writes a checkpoint anew, tensor by tensor, from file to file.

    Args:
      source, config, parts: see `load`; tokenizers are copied if there.
      output: a folder that does not exist yet, or is empty.
      dialect, dtype: see `save`; dtype None keeps each tensor's.

    Returns:
      Bytes of tensors that were written.

    Raises:
      CheckpointError: see `load`; or `output` has files, or too little space.
    """
    source, output = self.locate(source), pathlib.Path(output)
    if output.exists() and not (output.is_dir() and not any(output.iterdir())):
      raise errors.CheckpointError(
          f"{output} exists and is not an empty folder; name a new one.")
    found, said = self._match(source, config, parts, None)
    known = self.parts(config)
    tensors = {part: self._export(part, known[part], tree, dialect, dtype)
               for part, tree in found.items()}
    size = sum(tensor.size * np.dtype(tensor.dtype).itemsize
               for part in tensors.values() for tensor in part.values())
    with _whole(output) as temporary:
      free = shutil.disk_usage(temporary).free
      if free < size:
        raise errors.CheckpointError(
            f"{output} takes {size / 1e9:.1f} GB, and its disk has "
            f"{free / 1e9:.1f} GB left; free some, or name another disk.")
      for part, released in tensors.items():
        _write(temporary, known[part], said[part], released)
      for name in self.tokenizers:
        place = self._tokenizer(source, name)
        if place.is_dir():
          shutil.copytree(place, temporary / self.tokenizers[name][0],
                          ignore=_IGNORED)
      for name in _COPIED:
        if (source / name).is_dir():
          shutil.copytree(source / name, temporary / name)
        elif (source / name).is_file():
          shutil.copy(source / name, temporary / name)
    return size

  def _match(self, source, config, chosen, dtype):
    """({part: tree of lazy.Parameter}, {part: config.json})."""
    folder, known = self.locate(source), self.parts(config)
    unknown = set(chosen or ()) - set(known)
    if unknown:
      raise errors.ConfigError(
          f"{self.name} has no part {min(unknown)!r}; have: "
          f"{', '.join(known)}.")
    if folder.is_file() and len(chosen or known) > 1:
      raise errors.CheckpointError(
          f"{folder} is one file, which holds one part of a model; say which "
          f"of {', '.join(known)}.")
    said = {part: self._read_config(folder, known, part,
                                    part in (chosen or known))
            for part in known}
    shapes = jax.eval_shape(self.model(config).init, jax.random.key(0))
    found = {}
    for part in chosen or known:
      kind = dtype.get(part) if isinstance(dtype, Mapping) else dtype
      target = jax.tree.map(lambda leaf, kind=kind: jax.ShapeDtypeStruct(
          leaf.shape, kind or leaf.dtype), shapes[part])
      place = self._find(folder, known, part)
      try:
        tensors = open_tensors(place)
        names = known[part].names
        table = names[weights.choose(tensors, names)]
        found[part] = weights.match(tensors, table, target)
      except errors.CheckpointError as error:
        if str(place) in str(error):
          raise
        raise errors.CheckpointError(f"{place}: {error}") from error
    return found, said

  def _find(self, folder, known, part):
    """The file or folder that holds the part's tensors."""
    inside = folder / known[part].folder
    if folder.is_file() or inside.is_dir():
      return folder if folder.is_file() else inside
    for pattern in known[part].originals:
      matches = sorted(folder.glob(pattern))
      if len(matches) > 1:
        raise errors.CheckpointError(
            f"{folder} holds {len(matches)} files of the {part}: "
            f"{', '.join(match.name for match in matches)}; name one.")
      if matches:
        return matches[0]
    *rest, last = (*(item.folder for item in known.values()),
                   *(places[0] for places in self.tokenizers.values()))
    raise errors.CheckpointError(
        f"No checkpoint part at {inside}; a {self.name} folder of this preset "
        f"holds {', '.join(rest)} and {last}.")

  def _read_config(self, folder, known, part, needed):
    """What the part's config.json says, or, without one, the preset."""
    path = folder / known[part].folder / "config.json"
    if not path.is_file():
      if needed and path.parent == self._find(folder, known, part):
        raise errors.CheckpointError(
            f"No checkpoint part at {path}: the folder has no config.json.")
      return dict(known[part].facts)  # in the layout of its authors
    return facts.read(path, known[part].facts, f"the {part} of {self.name}")

  def _tokenizer(self, source, name):
    folder, places = self.locate(source), self.tokenizers[name]
    found = [folder / place for place in places if (folder / place).is_dir()]
    return (found or [folder / places[0]])[0]

  def _export(self, part, about, tree, dialect, dtype):
    """Released name -> lazy array."""
    if dialect not in about.names:
      if dialect not in DIALECTS:
        raise errors.ConfigError(
            f"Unknown dialect {dialect!r}; have: {', '.join(DIALECTS)}.")
      raise errors.ConfigError(
          f"The {part} of {self.name} has no {dialect!r} names; have: "
          f"{', '.join(about.names)}.")
    return {name: _cast(tensor, dtype) for name, tensor
            in weights.export(tree, about.names[dialect]).items()}


def open_tensors(path: pathlib.Path) -> dict[str, np.ndarray]:
  """Opens a part's file or folder, of safetensors or torch files.

  Returns:
    name -> view of a file.

  Raises:
    CheckpointError: missing or damaged.
  """
  if path.suffix in _TORCH:
    return torch_file.read(path)
  if path.name.endswith(".index.json"):
    path = path.parent
  if not path.is_dir() or any(path.glob("*.safetensors")):
    return safetensors.read(path)
  files = sorted(file for file in path.iterdir() if file.suffix in _TORCH)
  if not files:
    raise errors.CheckpointError(f"No .safetensors file in {path}.")
  return {name: tensor for file in files
          for name, tensor in torch_file.read(file).items()}


def _cast(tensor: Any, dtype: Any) -> lazy.Array:
  make = tensor.make if isinstance(tensor, lazy.Array) else lambda: tensor
  return lazy.Array(tensor.shape, np.dtype(dtype or tensor.dtype), make)


def _write(folder: pathlib.Path, part: Part, said: Mapping[str, Any],
           tensors: Mapping[str, lazy.Array]) -> None:
  inside = folder / part.folder
  inside.mkdir(parents=True)
  (inside / "config.json").write_text(json.dumps(said, indent=2) + "\n")
  safetensors.write_folder(inside, part.stem, tensors, {"format": "pt"})


@contextlib.contextmanager
def _whole(final: pathlib.Path) -> Iterator[pathlib.Path]:
  """A folder whose entries appear in `final` once all of them are written."""
  final.parent.mkdir(parents=True, exist_ok=True)
  temporary = final.with_name(f".{final.name}.{os.getpid()}")
  temporary.mkdir()
  try:
    yield temporary
    final.mkdir(exist_ok=True)
    for entry in list(temporary.iterdir()):
      if (final / entry.name).exists():
        (final / entry.name).rename(temporary / f"{entry.name}.old")
      entry.rename(final / entry.name)
  finally:
    shutil.rmtree(temporary, ignore_errors=True)
