"""Text and image encoders of all families."""

import torch
import transformers

EAGER = {"attn_implementation": "eager"}


def _lengths(*lengths, longest):
  """A mask i64[b, longest] of prompts that long, padded behind."""
  return (torch.arange(longest) < torch.tensor(lengths)[:, None]).long()


def _padded(case, vocabulary, mask, padding=0):
  """Tokens i64[b, m], `padding` where the mask is 0."""
  tokens = case.whole("tokens", 2, vocabulary - 2, *mask.shape)
  return torch.where(mask.bool(), tokens, padding)


def _t5(case, model, config, length, prompts, **sizes):
  kwargs = {"layer_norm_epsilon": 1e-6, "is_encoder_decoder": False,
            "use_cache": False, **sizes}
  case.config = {"class": model.__name__, "kwargs": kwargs}
  net = case.fill(model(config(**kwargs, **EAGER)))
  mask = _lengths(*prompts, longest=length)
  given = case.given(input_ids=_padded(case, kwargs["vocab_size"], mask),
                     attention_mask=mask)
  return net, given


def _umt5(case):
  net, given = _t5(
      case, transformers.UMT5EncoderModel, transformers.UMT5Config, 26,
      (26, 11), vocab_size=40, d_model=20, d_kv=6, d_ff=36, num_layers=3,
      num_heads=5, relative_attention_num_buckets=12,
      relative_attention_max_distance=20, feed_forward_proj="gated-gelu")
  states = net(**given).last_hidden_state
  case.outputs.update(
      last_hidden_state=states,
      zero_padded=states * given["attention_mask"][..., None])


def _t5_gated(case):
  net, given = _t5(
      case, transformers.T5EncoderModel, transformers.T5Config, 31, (8, 31),
      vocab_size=36, d_model=24, d_kv=10, d_ff=44, num_layers=3, num_heads=3,
      relative_attention_num_buckets=16, relative_attention_max_distance=24,
      feed_forward_proj="gated-gelu")
  case.outputs.update(
      masked=net(**given).last_hidden_state,
      unmasked=net(given["input_ids"]).last_hidden_state)


def _t5_relu(case):
  net, given = _t5(
      case, transformers.T5EncoderModel, transformers.T5Config, 14,
      (14, 1, 9), vocab_size=50, d_model=20, d_kv=16, d_ff=56, num_layers=2,
      num_heads=6, relative_attention_num_buckets=8,
      relative_attention_max_distance=12, feed_forward_proj="relu")
  case.outputs.update(
      masked=net(**given).last_hidden_state,
      unmasked=net(given["input_ids"]).last_hidden_state)


def _clip_vision(case):
  kwargs = dict(
      hidden_size=36, intermediate_size=40, num_hidden_layers=2,
      num_attention_heads=3, image_size=20, patch_size=5, hidden_act="gelu",
      layer_norm_eps=1e-5, projection_dim=12)
  case.config = {"class": "CLIPVisionModel", "kwargs": kwargs}
  net = case.fill(
      transformers.CLIPVisionModel(
          transformers.CLIPVisionConfig(**kwargs, **EAGER)),
      publish=_under("vision_model."))
  given = case.given(pixel_values=case.normal("pixels", 2, 3, 20, 20))
  states = net(**given, output_hidden_states=True).hidden_states
  case.outputs.update({f"hidden_states/{len(states) - 1}": states[-1],
                       "penultimate": states[-2]})


def _clip_text(case):
  kwargs = dict(
      vocab_size=48, hidden_size=30, intermediate_size=44, num_hidden_layers=3,
      num_attention_heads=5, max_position_embeddings=19,
      hidden_act="quick_gelu", bos_token_id=46, eos_token_id=47,
      pad_token_id=47, projection_dim=12)
  case.config = {"class": "CLIPTextModel", "kwargs": kwargs}
  net = case.fill(
      transformers.CLIPTextModel(
          transformers.CLIPTextConfig(**kwargs, **EAGER)),
      publish=_under("text_model."))
  mask = _lengths(19, 5, 12, longest=19)
  tokens = _padded(case, 46, mask, padding=47)
  tokens[:, 0], tokens[0, -1] = 46, 47
  out = net(**case.given(input_ids=tokens))
  case.outputs.update(last_hidden_state=out.last_hidden_state,
                      pooler_output=out.pooler_output)


def _llama(case):
  kwargs = dict(
      vocab_size=44, hidden_size=24, intermediate_size=36, num_hidden_layers=3,
      num_attention_heads=6, num_key_value_heads=3, head_dim=8,
      rms_norm_eps=1e-6, hidden_act="silu", rope_theta=10000.0,
      max_position_embeddings=64, pad_token_id=1)
  case.config = {"class": "LlamaModel", "kwargs": kwargs}
  net = case.fill(
      transformers.LlamaModel(transformers.LlamaConfig(**kwargs, **EAGER)))
  mask = _lengths(17, 9, longest=17)
  given = case.given(input_ids=_padded(case, 44, mask, padding=1),
                     attention_mask=mask)
  states = net(**given, output_hidden_states=True).hidden_states
  case.outputs.update({f"hidden_states/{len(states) - 1}": states[-1],
                       "third_last": states[-3]})


def _llava(case):
  sees = dict(hidden_size=20, intermediate_size=28, num_hidden_layers=2,
              num_attention_heads=2, image_size=15, patch_size=5,
              projection_dim=8)
  reads = dict(vocab_size=40, hidden_size=24, intermediate_size=32,
               num_hidden_layers=3, num_attention_heads=4,
               num_key_value_heads=1, head_dim=8, rms_norm_eps=1e-5,
               rope_theta=20000.0, pad_token_id=1)
  image = 38
  case.config = {
      "class": "LlavaForConditionalGeneration",
      "kwargs": {"vision": sees, "text": reads, "image_token": image}}
  net = case.fill(
      transformers.LlavaForConditionalGeneration(transformers.LlavaConfig(
          vision_config=transformers.CLIPVisionConfig(**sees, **EAGER),
          text_config=transformers.LlamaConfig(**reads, **EAGER),
          image_token_index=image, **EAGER)),
      publish=_llava_name)
  mask = _lengths(22, 18, longest=22)
  tokens = _padded(case, 38, mask, padding=1)
  tokens[:, 3:12] = image  # 9 patches
  given = case.given(
      input_ids=tokens, attention_mask=mask,
      pixel_values=case.normal("pixels", 2, 3, 15, 15))
  states = net(**given, output_hidden_states=True).hidden_states
  case.outputs.update(last=states[-1], third_last=states[-3])


def _under(prefix):
  """Published files name the tower; transformers 5 leaves that out."""
  return lambda name: prefix + name.removeprefix(prefix)


def _llava_name(name):
  """Names of transformers 5 to those of published files."""
  name = name.removeprefix("model.")
  if name.startswith("vision_tower."):
    rest = name.removeprefix("vision_tower.")
    return "vision_tower." + _under("vision_model.")(rest)
  if name.startswith("language_model."):
    return name.replace("language_model.", "language_model.model.", 1)
  if name.startswith("lm_head."):
    return f"language_model.{name}"
  return name


CASES = {
    "umt5_b": _umt5,
    "t5_v11_gated_b": _t5_gated,
    "t5_11b_relu_b": _t5_relu,
    "clip_vision_b": _clip_vision,
    "clip_text_b": _clip_text,
    "llama_text_b": _llama,
    "llava_text_b": _llava,
}
