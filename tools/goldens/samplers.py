"""Samplers, on a network that is a formula."""

import diffusers
import numpy as np
import torch

UNIPC = dict(prediction_type="flow_prediction", use_flow_sigmas=True,
             num_train_timesteps=1000)
COG = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
           prediction_type="v_prediction", timestep_spacing="trailing",
           rescale_betas_zero_snr=True, set_alpha_to_one=True,
           clip_sample=False)
# name -> (class, configuration, arguments of set_timesteps)
FLOW = {
    "flow_euler_shift2_n6": (
        diffusers.FlowMatchEulerDiscreteScheduler, dict(shift=2.0),
        dict(num_inference_steps=6)),
    "flow_euler_hunyuan_shift7_n5": (
        diffusers.FlowMatchEulerDiscreteScheduler, dict(shift=7.0),
        dict(sigmas=[1.0, 0.8, 0.6, 0.4, 0.2])),
    "unipc_flow_shift8_n7": (
        diffusers.UniPCMultistepScheduler, dict(**UNIPC, flow_shift=8.0),
        dict(num_inference_steps=7)),
    "unipc_flow_shift5_n2": (
        diffusers.UniPCMultistepScheduler, dict(**UNIPC, flow_shift=5.0),
        dict(num_inference_steps=2)),
    "dpmpp_flow_shift12_n6": (
        diffusers.DPMSolverMultistepScheduler, dict(**UNIPC, flow_shift=12.0),
        dict(num_inference_steps=6)),
    "cogvideox_ddim_5b_n7": (
        diffusers.CogVideoXDDIMScheduler, dict(**COG, snr_shift_scale=1.0),
        dict(num_inference_steps=7)),
    "cogvideox_ddim_2b_n3": (
        diffusers.CogVideoXDDIMScheduler, dict(**COG, snr_shift_scale=3.0),
        dict(num_inference_steps=3)),
}


def _toy(x, time):
  return 0.5 * x + 0.1 * torch.sin(3 * x) + 0.3 * torch.cos(
      torch.as_tensor(time, dtype=torch.float32) / 1000)


def _double(values):
  return torch.as_tensor(np.asarray(values), dtype=torch.float64)


def _walk(case, name, cls, config, asked, x):
  scheduler = cls(**config)
  scheduler.set_timesteps(**asked)
  case.config["schedulers"][name] = {
      "class": cls.__name__, "config": config, "set_timesteps": asked,
      "x_scale": 1.0}
  case.outputs[f"{name}/timesteps"] = _double(scheduler.timesteps)
  if hasattr(scheduler, "sigmas"):
    case.outputs[f"{name}/sigmas"] = _double(scheduler.sigmas)
  else:
    case.outputs[f"{name}/alphas_cumprod"] = _double(scheduler.alphas_cumprod)
  steps = []
  for time in scheduler.timesteps:
    x = scheduler.step(_toy(x, time), time, x).prev_sample
    steps.append(x)
  case.outputs[f"{name}/x"] = torch.stack(steps)


def _cog_dpm(case, name, count, x):
  """The solver that draws noise; the draws are among the inputs."""
  config = dict(**COG, snr_shift_scale=1.0)
  scheduler = diffusers.CogVideoXDPMScheduler(**config)
  scheduler.set_timesteps(count)
  case.config["schedulers"][name] = {
      "class": "CogVideoXDPMScheduler", "config": config,
      "set_timesteps": {"num_inference_steps": count}, "x_scale": 1.0}
  generator, drawn = torch.Generator().manual_seed(5), []
  module = __import__(type(scheduler).__module__, fromlist=["randn_tensor"])
  draw = module.randn_tensor

  def noted(*args, **kwargs):
    drawn.append(draw(*args, **kwargs))
    return drawn[-1]

  module.randn_tensor = noted
  try:
    old, steps = None, []
    for i, time in enumerate(scheduler.timesteps):
      x, old = scheduler.step(
          _toy(x, time), old, time,
          scheduler.timesteps[i - 1] if i else None, x, generator=generator,
          return_dict=False)
      steps.append(x)
  finally:
    module.randn_tensor = draw
  case.inputs[f"{name}/noise"] = torch.stack(drawn)
  case.outputs[f"{name}/timesteps"] = _double(scheduler.timesteps)
  case.outputs[f"{name}/x"] = torch.stack(steps)


def _karras(case, name, count, x):
  """The steps of the Cosmos pipeline, without a network of its own."""
  scheduler = diffusers.FlowMatchEulerDiscreteScheduler(use_karras_sigmas=True)
  scheduler.register_to_config(sigma_max=80.0, sigma_min=0.002, sigma_data=1.0,
                               final_sigmas_type="sigma_min")
  scheduler.set_timesteps(
      sigmas=torch.linspace(0, 1, count, dtype=torch.float64))
  scheduler.sigmas[-1] = scheduler.sigmas[-2]
  case.config["schedulers"][name] = {
      "class": "FlowMatchEulerDiscreteScheduler",
      "config": {"use_karras_sigmas": True, "sigma_max": 80.0,
                 "sigma_min": 0.002, "final_sigmas_type": "sigma_min"},
      "set_timesteps": {"num_inference_steps": count}, "x_scale": 80.0}
  x, steps = 80 * x, []
  for i, time in enumerate(scheduler.timesteps):
    sigma = scheduler.sigmas[i]
    t = sigma / (sigma + 1)
    data = (1 - t) * x - t * _toy((1 - t) * x, 1000 * t)
    x = scheduler.step((x - data) / sigma, time, x).prev_sample
    steps.append(x)
  case.outputs[f"{name}/sigmas"] = _double(scheduler.sigmas)
  case.outputs[f"{name}/timesteps"] = _double(scheduler.timesteps)
  case.outputs[f"{name}/x"] = torch.stack(steps)


def _schedulers(case):
  case.config = {
      "toy": "v = 0.5 x + 0.1 sin(3x) + 0.3 cos(t / 1000)", "schedulers": {}}
  x = case.normal("x_init", 1, 3, 2, 2, 3)
  case.given(x_init=x)
  for name, (cls, config, asked) in FLOW.items():
    _walk(case, name, cls, config, asked, x)
  _cog_dpm(case, "cogvideox_dpm_5b_n9", 9, x)
  _cog_dpm(case, "cogvideox_dpm_5b_n7", 7, x)
  _karras(case, "cosmos_karras_euler_n7", 7, x)


CASES = {"schedulers_b": _schedulers}
