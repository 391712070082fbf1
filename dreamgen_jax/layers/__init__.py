"""What at least two networks share.

The one legend of shape letters: `b` batch, `f` video frames, `t` latent
frames, `h w` space, `c` channels, `l` tokens, `m` text tokens, `n` heads,
`k` head dim, `d` width, `u` chunk steps, `a` action, `s` state, `v` views,
`o` observation steps.
"""
