"""What a program will need on a TPU pod, told by the TPU's own compiler.

`python -m dreamgen_jax.plan --help`. The compiler (libtpu) runs on a machine
without a TPU; nothing is executed.

  chips        what a chip and its links can do; topologies by name
  steps        the real step of a stage, from its config
  hlo          reads the scheduled program that the compiler printed
  collectives  bytes and seconds of what chips exchange
  schedule     walks the program and prices it
  kernels      cycles of our Pallas kernels, by their scheduled bundles
  report       all of it in one object, and on a terminal
"""
