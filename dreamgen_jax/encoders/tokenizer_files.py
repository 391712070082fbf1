"""Tokenizers in whatever files a release has them.

  tokenizer.json            most of them
  spiece.model              T5 of CogVideoX: a sentencepiece unigram model
  vocab.json + merges.txt   CLIP's text tower, or a GPT-2 like tokenizer with
                            its added tokens in tokenizer_config.json (Eagle 2)
  *.model                   PaliGemma: any other model of sentencepiece
"""

import json
import pathlib
import struct
from collections.abc import Iterator
from typing import Any

import sentencepiece
import tokenizers
from tokenizers import (
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)

from dreamgen_jax import errors
from dreamgen_jax.encoders import tokenizer as tokenizer_lib

_SPACE = "▁"  # sentencepiece's stand-in
_UNIGRAM = 1
# Contractions, words, digits one by one, and all else.
_CLIP_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"
_BEGIN, _END = "<|startoftext|>", "<|endoftext|>"


def load(path: str) -> Any:
  """Reads tokenizer.json, or else the other files beside its place.

  Returns:
    A `tokenizers.Tokenizer`; of a path that ends in .model, a
    `sentencepiece.SentencePieceProcessor`.

  Raises:
    CheckpointError: none of the files is there, or one is damaged.
  """
  file = pathlib.Path(path)
  if file.suffix == ".model":
    return _pieces(file)
  spiece, vocabulary, merges = (
      file.with_name(name)
      for name in ("spiece.model", "vocab.json", "merges.txt"))
  if not file.exists() and spiece.exists():
    return _t5(spiece)
  if not file.exists() and vocabulary.exists() and merges.exists():
    return _pairs(vocabulary, merges)
  return tokenizer_lib.load(path)


def _pieces(path: pathlib.Path) -> sentencepiece.SentencePieceProcessor:
  if not path.is_file():
    raise errors.CheckpointError(f"No tokenizer file at {path}.")
  try:
    return sentencepiece.SentencePieceProcessor(
        model_proto=path.read_bytes())
  except Exception as error:  # the library raises many kinds
    raise errors.CheckpointError(
        f"{path} is not a sentencepiece file ({error}).") from error


def _t5(path: pathlib.Path) -> tokenizers.Tokenizer:
  try:
    model = _message(path.read_bytes())
    pieces = [_message(piece) for piece in model[1]]
    vocabulary = [(piece[1][0].decode(),
                   struct.unpack("<f", piece.get(2, [bytes(4)])[0])[0])
                  for piece in pieces]
    training, normaliser = _message(model[2][0]), _message(model[3][0])
    if training.get(3, [_UNIGRAM])[0] != _UNIGRAM:
      raise ValueError("not a unigram model")
    tokenizer = tokenizers.Tokenizer(models.Unigram(
        vocabulary, training.get(40, [0])[0]))
    steps = [normalizers.Replace(tokenizers.Regex(" {2,}"), " ")]
    if normaliser.get(2, [b""])[0]:
      steps.insert(0, normalizers.Precompiled(normaliser[2][0]))
    tokenizer.normalizer = normalizers.Sequence(steps)
    end = tokenizer.token_to_id(tokenizer_lib.END)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {tokenizer_lib.END}",
        special_tokens=[(tokenizer_lib.END, end)])
  except Exception as error:  # the library raises bare Exception
    raise errors.CheckpointError(
        f"{path} is not a sentencepiece file of T5 ({error}).") from error
  tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(
      replacement=_SPACE, prepend_scheme="always")
  tokenizer.decoder = decoders.Metaspace(
      replacement=_SPACE, prepend_scheme="always")
  return tokenizer


def _message(data: bytes) -> dict[int, list[Any]]:
  """Fields of a protocol buffer: number -> values, in order."""
  fields: dict[int, list[Any]] = {}
  for number, value in _fields(data):
    fields.setdefault(number, []).append(value)
  return fields


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
  place = 0

  def varint():
    nonlocal place
    value, shift = 0, 0
    while True:
      byte = data[place]
      place += 1
      value |= (byte & 127) << shift
      shift += 7
      if byte < 128:
        return value

  while place < len(data):
    tag = varint()
    number, kind = tag >> 3, tag & 7
    if kind == 0:
      yield number, varint()
      continue
    size = {1: 8, 5: 4}[kind] if kind != 2 else varint()
    if place + size > len(data):
      raise ValueError("cut off")
    yield number, data[place:place + size]
    place += size


def _pairs(vocabulary: pathlib.Path,
           merges: pathlib.Path) -> tokenizers.Tokenizer:
  """Tokenizers that merge pairs of bytes: CLIP's, or one like GPT-2's."""
  try:
    known = json.loads(vocabulary.read_text())
    pairs = [tuple(line.split()) for line in merges.read_text().splitlines()
             if line.strip() and not line.startswith("#version")]
    if _BEGIN in known:
      return _clip(known, pairs)
    settings = vocabulary.with_name("tokenizer_config.json").read_text()
    return _gpt2(known, pairs, json.loads(settings)["added_tokens_decoder"])
  except Exception as error:  # the library raises bare Exception
    raise errors.CheckpointError(
        f"{vocabulary} and {merges.name} are not files of CLIP's tokenizer, "
        f"nor of one like GPT-2's ({error}).") from error


def _clip(known: dict[str, int],
          pairs: list[tuple[str, ...]]) -> tokenizers.Tokenizer:
  tokenizer = tokenizers.Tokenizer(models.BPE(
      known, pairs, unk_token=_END, end_of_word_suffix="</w>",
      continuing_subword_prefix="", fuse_unk=False))
  tokenizer.post_processor = processors.TemplateProcessing(
      single=f"{_BEGIN} $A {_END}",
      special_tokens=[(word, known[word]) for word in (_BEGIN, _END)])
  tokenizer.normalizer = normalizers.Sequence([
      normalizers.NFC(), normalizers.Replace(tokenizers.Regex(r"\s+"), " "),
      normalizers.Lowercase()])
  tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
      pre_tokenizers.Split(tokenizers.Regex(_CLIP_WORDS), "removed",
                           invert=True),
      pre_tokenizers.ByteLevel(add_prefix_space=False)])
  tokenizer.decoder = decoders.ByteLevel()
  tokenizer.add_special_tokens([_BEGIN, _END])
  return tokenizer


def _gpt2(known: dict[str, int], pairs: list[tuple[str, ...]],
          added: dict[str, Any]) -> tokenizers.Tokenizer:
  tokenizer = tokenizers.Tokenizer(models.BPE(known, pairs))
  tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  tokenizer.decoder = decoders.ByteLevel()
  for number in sorted(added, key=int):
    word = added[number]["content"]
    tokenizer.add_tokens([tokenizers.AddedToken(word, **{
        name: added[number][name] for name in (
            "single_word", "lstrip", "rstrip", "normalized", "special")})])
    if tokenizer.token_to_id(word) != int(number):
      raise ValueError(f"{word!r} is not number {number}")
  return tokenizer
