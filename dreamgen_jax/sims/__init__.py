"""Simulators behind the Gymnasium API.

Each has `make(task, *, horizon, **settings)`, an environment with observations
image_<camera> u8[h,w,3] upright RGB, state f32[s] and language, and `success`
in its info; and `hold(observation, keys)`, the chunks [b,u,a] of a policy that
keeps still.
"""
