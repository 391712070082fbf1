"""Tokenizers from sentencepiece's and CLIP's files."""

import io
import json

import pytest
import sentencepiece

from dreamgen_jax import errors
from dreamgen_jax.encoders import tokenizer, tokenizer_files

TEXTS = ["the robot picks up the red block and puts it into the drawer",
         "open the drawer, then close it", "\uff37\uff49de \u2460 is plain",
         "a gripper moves 12 blocks"]


def _train(kind):
  buffer = io.BytesIO()
  sentencepiece.SentencePieceTrainer.train(
      sentence_iterator=iter(TEXTS * 20), model_writer=buffer, vocab_size=60,
      hard_vocab_limit=kind != "unigram", model_type=kind, pad_id=0, eos_id=1,
      unk_id=2, bos_id=-1, minloglevel=9)
  return buffer.getvalue()


@pytest.fixture(scope="module")
def unigram():
  return _train("unigram")


def test_t5_ids_are_sentencepieces(tmp_path, unigram):
  (tmp_path / "spiece.model").write_bytes(unigram)
  ours = tokenizer_files.load(str(tmp_path / "tokenizer.json"))
  theirs = sentencepiece.SentencePieceProcessor(model_proto=unigram)
  for text in (*TEXTS, "robots   open\tdrawers", "put \u2461 into the block",
               "", " led by spaces", "\ufb01rst"):
    assert ours.encode(text.strip()).ids == [
        *theirs.encode(text.strip()), theirs.eos_id()], text
  ids, mask = tokenizer.encode(ours, ["open the drawer"], 40)
  assert ids[0, mask[0].sum() - 1] == tokenizer.END_ID


def test_clip_ids(tmp_path):
  letters = [chr(code) for code in range(33, 127)]
  words = [*letters, *(f"{letter}</w>" for letter in letters), "re", "red</w>",
           "th", "the</w>", "'s</w>", "<|startoftext|>", "<|endoftext|>"]
  known = {word: number for number, word in enumerate(words)}
  (tmp_path / "vocab.json").write_text(json.dumps(known))
  (tmp_path / "merges.txt").write_text(
      "#version: 0.2\nr e\nt h\nre d</w>\nth e</w>\n' s</w>\n")
  ours = tokenizer_files.load(str(tmp_path / "tokenizer.json"))

  def encode(*parts):
    return [known[part] for part in (
        "<|startoftext|>", *parts, "<|endoftext|>")]

  assert ours.encode("The  RED\n12").ids == encode(
      "the</w>", "red</w>", "1</w>", "2</w>")
  assert ours.encode("red's !?").ids == encode(
      "red</w>", "'s</w>", "!", "?</w>")
  assert ours.encode("").ids == encode()


def _added(content, special=True):
  return dict(content=content, single_word=False, lstrip=False, rstrip=False,
              normalized=not special, special=special)


def test_gpt2_ids_and_added_tokens(tmp_path):
  letters = [chr(code) for code in range(33, 127)]
  words = ["<|end|>", *letters, "\u0120", "\u010a", "th", "the", "\u0120the"]
  known = {word: number for number, word in enumerate(words)}
  added = {"0": _added("<|end|>"), str(len(words)): _added("<img>"),
           str(len(words) + 1): _added("robot", special=False)}
  (tmp_path / "vocab.json").write_text(json.dumps(known))
  (tmp_path / "merges.txt").write_text(
      "#version: 0.2\nt h\nth e\n\u0120 the\n")
  config = tmp_path / "tokenizer_config.json"
  config.write_text(json.dumps({"added_tokens_decoder": added}))
  ours = tokenizer_files.load(str(tmp_path / "tokenizer.json"))
  known |= {"<img>": len(words), "robot": len(words) + 1}

  def encode(*parts):
    return [known[part] for part in parts]

  assert ours.encode("the the\n<img>the<|end|>").ids == encode(
      "the", "\u0120the", "\u010a", "<img>", "the", "<|end|>")
  # A word that was added is cut out of longer ones.
  assert ours.encode("a robots").ids == encode("a", "\u0120", "robot", "s")
  config.write_text(json.dumps({"added_tokens_decoder": {
      "5": _added("<img>")}}))
  with pytest.raises(errors.CheckpointError, match="'<img>' is not number 5"):
    tokenizer_files.load(str(tmp_path / "tokenizer.json"))


def test_tokenizer_json_comes_first(tmp_path, unigram):
  words = tokenizer.train(["pick up"], 20)
  words.save(str(tmp_path / "tokenizer.json"))
  (tmp_path / "spiece.model").write_bytes(unigram)
  found = tokenizer_files.load(str(tmp_path / "tokenizer.json"))
  assert found.to_str() == words.to_str()


def test_damage(tmp_path, unigram):
  with pytest.raises(errors.CheckpointError, match="No tokenizer file at"):
    tokenizer_files.load(str(tmp_path / "tokenizer.json"))
  for number, data in enumerate((unigram[:200], b"\xff" * 50, _train("bpe"))):
    folder = tmp_path / str(number)
    folder.mkdir()
    (folder / "spiece.model").write_bytes(data)
    with pytest.raises(errors.CheckpointError, match="not a sentencepiece"):
      tokenizer_files.load(str(folder / "tokenizer.json"))
  (tmp_path / "vocab.json").write_text("{}")
  (tmp_path / "merges.txt").write_text("a b\n")
  with pytest.raises(errors.CheckpointError, match="not files of CLIP"):
    tokenizer_files.load(str(tmp_path / "tokenizer.json"))
