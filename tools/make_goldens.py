"""Makes tests/goldens: what the released implementations answer.

  python tools/make_goldens.py [--out=tests/goldens] [CASE ...]

Runs in an environment of its own, never the package's:

  python3.11 -m venv ENV
  ENV/bin/pip install torch==2.13.0 diffusers==0.42.1 transformers==5.23.0

The CPU build of torch is enough; all cases take a minute. Each case is a tiny
network of a released class with parameters and inputs drawn from the hash of
their names, run once in float32 on one thread. The same machine gives the same
bytes again.

What runs is diffusers and transformers (Apache License 2.0) and torch (BSD
3-Clause, with parts under others); their outputs are kept, not their code. No
released weights are read.

A case is a folder: config.json (class and arguments), weights.safetensors
(named as published), inputs.safetensors, outputs.safetensors. Weights and
inputs are drawn such that float16 holds them exactly, and are stored so;
readers widen them. Outputs are float32.
"""

import argparse
import pathlib

import torch
from goldens import case as case_lib
from goldens import cogvideox, cosmos, encoders, hunyuan, samplers, wan

FAMILIES = (wan, encoders, cogvideox, cosmos, hunyuan, samplers)


def main():
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument("--out", type=pathlib.Path, default=(
      pathlib.Path(__file__).resolve().parent.parent / "tests" / "goldens"))
  parser.add_argument("cases", nargs="*", metavar="CASE")
  arguments = parser.parse_args()
  makers = {name: make for family in FAMILIES
            for name, make in family.CASES.items()}
  unknown = set(arguments.cases) - makers.keys()
  if unknown:
    parser.error(f"no case {sorted(unknown)}; have {', '.join(makers)}")
  torch.set_num_threads(1)
  torch.use_deterministic_algorithms(True)
  for name in arguments.cases or makers:
    case = case_lib.Case(name)
    with torch.no_grad():
      makers[name](case)
    size = case.write(arguments.out / name)
    print(f"{name:32}{size / 1024:8.1f} KiB")


if __name__ == "__main__":
  main()
