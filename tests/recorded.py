"""Datasets as other people's builders leave them, for tests."""

import os
import struct

import numpy as np
import simplejpeg
import tensorflow_datasets as tfds
from array_record.python import array_record_module
from etils import epath
from tensorflow_datasets.core import example_serializer, naming
from tensorflow_datasets.core import splits as tfds_splits


def jpegs(count, size=16, seed=0):
  """`count` JPEGs of flat colours; red tells the index."""
  return [simplejpeg.encode_jpeg(np.full(
      (size, size, 3), (20 * i % 250, 40 * seed % 250, 100), np.uint8))
          for i in range(count)]


def write(folder, features, records, *, name="lab", shards=2,
          format="tfrecord", split="train"):
  """Writes records (nested dicts of columns, pictures encoded) as TFDS does."""
  folder.mkdir(parents=True)
  template = naming.ShardedFileTemplate(
      data_dir=epath.Path(folder), dataset_name=name, split=split,
      filetype_suffix=format)
  serializer = example_serializer.ExampleSerializer(
      features.get_serialized_info())
  parts = [records[i::shards] for i in range(shards)]
  for i, part in enumerate(parts):
    file = template.sharded_filepath(shard_index=i, num_shards=shards)
    data = [serializer.get_tf_example(each).SerializeToString(
        deterministic=True)
            for each in part]
    if format == "array_record":
      writer = array_record_module.ArrayRecordWriter(
          os.fspath(file), "group_size:1")
      for each in data:
        writer.write(each)
      writer.close()
    else:
      with open(file, "wb") as stream:
        for each in data:
          # The reader does not look at checksums.
          stream.write(struct.pack("<QI", len(each), 0) + each + bytes(4))
  info = tfds.core.DatasetInfo(
      builder=tfds.core.DatasetIdentity(
          name=name, version=tfds.core.Version("1.0.0"),
          data_dir=os.fspath(folder), module_name=""), features=features)
  info.set_file_format(format)
  info.set_splits(tfds_splits.SplitDict([tfds_splits.SplitInfo(
      name=split, shard_lengths=[len(part) for part in parts], num_bytes=1,
      filename_template=template)]))
  info.write_to_directory(epath.Path(folder))
  return folder
