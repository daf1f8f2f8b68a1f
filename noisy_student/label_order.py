"""Which class a label is: by folders, by lists, by what shards say of it."""

import os

from data_prep import class_names, files, image_folder
from efficientnet.messages import first_names


def of_folders(origin, directory, folders, num_classes, names):
    """Returns the names of class folders in label order, a tuple.

    Args:
        origin: Where they come from, as messages say it.
        directory: Local folder.
        folders: Names of the folders in it, sorted.
        num_classes: Number of classes of the model.
        names: As for `check`.

    Raises:
        ValueError: If they are not in one order, or not of so many classes.
    """
    listed = os.path.join(directory, image_folder.CLASSES_FILE)
    if names is not None:
        where = "the class names given"
    elif files.exists(listed):
        names, where = class_names.read_class_names(listed), listed
    elif set(folders) == set(class_names.numbers(num_classes)):
        return class_names.numbers(num_classes)
    elif num_classes == class_names.NUM_IMAGENET_CLASSES:
        # Any other thousand folders could be sorted as anything.
        names, where = class_names.imagenet_labels(), "ImageNet's 1000 classes"
    else:
        names, where = folders, "its class folders"
    if len(set(names)) < len(names):
        raise ValueError(f"{origin}: {where} name a class twice.")
    if unknown := [name for name in folders if name not in set(names)]:
        raise ValueError(
            f"{origin}: {len(unknown)} of {len(folders)} class folders are "
            f"not among {where}: {first_names(unknown)}. The order of the "
            f"labels may be given in {listed!r}, a JSON list of the folders."
        )
    if len(names) != num_classes:
        raise ValueError(
            f"{origin}: the model has {num_classes} classes, {where} hold "
            f"{len(names)}: {first_names(names)}. If some have no image, list "
            f"all of them, in the order of the labels, in {listed!r}."
        )
    return tuple(names)


def check(origin, found, names):
    """Checks the order of classes whose labels are stored.

    Args:
        origin: Where they come from, as messages say it.
        found: Their names in label order; None if they are not known.
        names: Names of the network's classes in label order, or None; then
            ImageNet's synset ids must be in their own order.

    Raises:
        ValueError: If the same names are in another order.
    """
    wanted = tuple(names or class_names.imagenet_labels())
    if found is None or set(found) != set(wanted) or found == wanted:
        return
    label = next(i for i, name in enumerate(wanted) if name != found[i])
    raise ValueError(
        f"{origin}: the classes are in another order than the network's: "
        f"label {label} is {found[label]!r}, not {wanted[label]!r}. Write the "
        "shards anew in its order."
    )
