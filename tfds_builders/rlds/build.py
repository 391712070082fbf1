"""Copies a TFDS dataset into ArrayRecord files, without TensorFlow.

  python -m tfds_builders.rlds.build --source=DIR --output=DIR

Records stay as they are, byte for byte: only what holds them changes, so that
any record, or part of one, is read at once from a bucket as well. A dataset in
TFRecord on a disk need not be copied to be trained on.
"""

import os
import pathlib
import sys
import uuid
from collections.abc import Sequence
from typing import Any

import tensorflow_datasets as tfds
from array_record.python import array_record_module
from etils import epath
from tensorflow_datasets.core import naming
from tensorflow_datasets.core import splits as tfds_splits

from dreamgen_jax import errors, options
from dreamgen_jax.data import checks, description, records
from tfds_builders import importing


def build(source: str, output: str, on_problem: str = "skip",
          keep: Sequence[str] = ()) -> checks.Report:
  """Copies all splits of `source`; returns what was wrong.

  What a file holds before it is damaged is copied.

  Raises:
    DataError: no such dataset, `output` is one already, or a problem is fatal.
  """
  target = pathlib.Path(output)
  if (target / "dataset_info.json").exists():
    raise errors.DataError(f"{target} is a dataset already.")
  report = checks.Report(on_problem, keep)
  info = tfds.builder_from_directory(description.find(source)).info
  target.mkdir(parents=True, exist_ok=True)
  splits = []
  for split in info.splits.values():
    template = naming.ShardedFileTemplate(
        data_dir=epath.Path(target), dataset_name=info.name, split=split.name,
        filetype_suffix="array_record")
    lengths, size = [], 0
    for i, file in enumerate(map(str, split.filepaths)):
      copy = pathlib.Path(template.sharded_filepath(
          shard_index=i, num_shards=len(split.filepaths)))
      count, bytes_ = _copy(file, copy, report)
      lengths.append(count)
      size += bytes_
    splits.append(tfds_splits.SplitInfo(
        name=split.name, shard_lengths=lengths, num_bytes=size,
        filename_template=template))
  made = tfds.core.DatasetInfo(
      builder=tfds.core.DatasetIdentity(
          name=info.name, version=info.version, data_dir=os.fspath(target),
          module_name=""),
      features=info.features, metadata=info.metadata)
  made.set_file_format("array_record")
  made.set_splits(tfds_splits.SplitDict(splits))
  made.write_to_directory(epath.Path(target))
  checks.listed(report.problems)
  print(f"{target}: {made.splits.total_num_examples} records of "
        f"{info.splits.total_num_examples} promised")
  return report


def _copy(file: str, copy: pathlib.Path,
          report: checks.Report) -> tuple[int, int]:
  """(records, bytes) that were copied."""
  format_ = "tfrecord" if ".tfrecord" in file else "array_record"
  temporary = copy.with_name(f"incomplete.{uuid.uuid4().hex}")
  writer = array_record_module.ArrayRecordWriter(
      os.fspath(temporary), "group_size:1,uncompressed")
  count = size = 0
  try:
    with records.opened(file, format_) as record:
      try:
        for place, length in records.scan(file, format_):
          data = record(place, length).read()
          writer.write(data)
          count, size = count + 1, size + len(data)
      except checks.Bad as error:
        report.keeps(error.kind, pathlib.Path(file).name,
                     f"{error} {count} records were copied.")
  except BaseException:
    writer.close()
    temporary.unlink()
    raise
  writer.close()
  os.replace(temporary, copy)
  return count, size


@options.program(__doc__, {
    "source": "the dataset's folder", "output": "folder of the copy",
    **importing.PROBLEMS_OPTIONS,
}, required=("source", "output"))
def main(given: Any) -> None:
  """Runs the program."""
  build(given.source, given.output, given.on_problem, given.keep)


if __name__ == "__main__":
  sys.exit(main())
