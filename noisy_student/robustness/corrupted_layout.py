"""Where corrupted images lie, as in the released sets.

    <output_dir>/<corruption>/<severity>/<class>/<image>.JPEG
    <output_dir>/<perturbation>/<class>/<image>/<frame>.JPEG

A part is one corruption at one severity, or one perturbation. `.done` holds a
marker for each part that is complete; of others the images that are there are
kept, as their bytes would be the same.
"""

import os
import typing

from data_prep import files

EXTENSIONS = {"jpeg": ".JPEG", "png": ".png"}
_DONE = ".done"


class Part(typing.NamedTuple):
    """One corruption at one severity, or one perturbation.

    Attributes:
        name: Of the corruption or perturbation.
        severity: 1 to 5, None for a perturbation.
    """

    name: str
    severity: int = None

    @property
    def folder(self):
        """Where its class folders are, below the output folder."""
        return "/".join(str(value) for value in self if value is not None)

    def path(self, folder, name, file_format, number):
        """Returns the path of a file that is made of an image.

        Args:
            folder: Where the class folders are.
            name: Of the image, `class/image`.
            file_format: `'jpeg'` or `'png'`.
            number: Of the frame; a corruption has one, which is not numbered.
        """
        path = os.path.join(folder, name)
        if self.severity is None:
            path = os.path.join(path, f"{number:03d}")
        return path + EXTENSIONS[file_format]


def marker_path(output_dir, part):
    """Returns the path of what says that a part is complete."""
    name = part.folder.replace("/", "-")
    return os.path.join(output_dir, _DONE, f"{name}.json")


def images_path(output_dir):
    """Returns the path of what says which images a folder is of."""
    return os.path.join(output_dir, _DONE, "images.json")


def find_pending(output_dir, parts):
    """Returns the parts that are not complete, a list."""
    return [p for p in parts if not files.exists(marker_path(output_dir, p))]
