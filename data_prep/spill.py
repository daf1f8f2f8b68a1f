"""Files between the two steps of shuffling a corpus that fits no memory.

First each input shard writes its records, in the output's order, to one file;
then each output shard reads its part of every file and sorts them together.
A file ends in a table of its parts, so that one is found without the others.
"""

import os
import struct

import numpy as np

from data_prep import files, shards

_FOLDER = ".spill"
# Of a record: place in the order, label, length of what follows.
_HEADER = struct.Struct("<QiI")


class Spills:
    """The files of all input shards.

    Args:
        folder: Output folder.
        num_inputs: Input shards.
        num_outputs: Output shards.
        num_counters: Numbers that are kept for each part.
    """

    def __init__(self, folder, num_inputs, num_outputs, num_counters):
        self._folder = os.path.join(folder, _FOLDER)
        self._num_inputs = num_inputs
        self._num_outputs = num_outputs
        # Of a part: where it begins and ends, and its counters.
        self._row_bytes = 8 * (2 + num_counters)

    def path(self, index):
        """Returns the file of an input shard."""
        name = shards.shard_name("input", index, self._num_inputs)
        return os.path.join(self._folder, name)

    @property
    def pending(self):
        """Tuple of the indices of the input shards without a file."""
        names = set(files.list_names(self._folder))
        return tuple(
            index
            for index in range(self._num_inputs)
            if os.path.basename(self.path(index)) not in names
        )

    def write(self, index, records, counters):
        """Writes the file of an input shard, atomically.

        Args:
            index: int, the input shard.
            records: Iterable of (output shard, order, label, serialized
                record), ascending.
            counters: int64 [num_outputs, num_counters], of each part.
        """
        path = self.path(index)
        temporary = files.temporary_path(path)
        files.make_dirs(self._folder)
        sizes = np.zeros(self._num_outputs, np.int64)
        try:
            with files.open_file(temporary, "wb") as file:
                for output, order, label, payload in records:
                    file.write(_HEADER.pack(order, label, len(payload)))
                    file.write(payload)
                    sizes[output] += _HEADER.size + len(payload)
                ends = sizes.cumsum()
                table = np.column_stack([ends - sizes, ends, counters])
                file.write(table.astype("<i8").tobytes())
            files.publish(temporary, path)
        except BaseException:
            files.remove(temporary)
            raise

    def read(self, output):
        """Returns what all input shards have for an output shard.

        Returns:
            (list of (order, serialized record, label), not sorted; int64
            [num_counters], the sum of the counters).
        """
        found, counters = [], 0
        for index in range(self._num_inputs):
            path = self.path(index)
            from_end = self._row_bytes * (self._num_outputs - output)
            with files.open_file(path, "rb") as file:
                file.seek(files.size(path) - from_end)
                row = np.frombuffer(file.read(self._row_bytes), "<i8")
                file.seek(int(row[0]))
                part = file.read(int(row[1] - row[0]))
            found.extend(_parse(part))
            counters = counters + row[2:]
        return found, counters

    def remove(self):
        """Removes all files and what killed runs left of them."""
        files.remove_folder(self._folder)


def _parse(part):
    offset = 0
    while offset < len(part):
        order, label, length = _HEADER.unpack_from(part, offset)
        offset += _HEADER.size
        yield order, part[offset : offset + length], label
        offset += length
