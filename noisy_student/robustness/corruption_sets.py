"""The sets of ImageNet-C: where they lie, and whether all of them are there."""

import os

from data_prep import class_names, files, shards
from efficientnet.messages import first_names
from noisy_student import image_places
from noisy_student.robustness import layout
from noisy_student.robustness import network as network_lib

# The released archives, and what is in each.
_GROUPS = {
    "noise": ("gaussian_noise", "shot_noise", "impulse_noise"),
    "blur": ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    "weather": ("snow", "frost", "fog", "brightness"),
    "digital": (
        "contrast",
        "elastic_transform",
        "pixelate",
        "jpeg_compression",
    ),
    "extra": ("speckle_noise", "gaussian_blur", "spatter", "saturate"),
}


def locate(directory, corruption, severity):
    """Returns where the images of a corruption at a severity are.

    Args:
        directory: The value of `--label_data_dir`.
        corruption: Its name.
        severity: 1 to 5.
    """
    if image_places.is_tfds(directory):
        return f"{directory}/{corruption}_{severity}"
    return os.path.join(
        layout.folder_of(directory, corruption, _GROUPS), str(severity)
    )


def check(directory, corruptions, severities, num_classes):
    """Checks that folders hold every severity of corruptions, and no other.

    Reads names of folders and images, no image. What lies beside the
    corruptions is told by a warning.

    Args:
        directory: The value of `--label_data_dir`.
        corruptions: Names of those that are needed.
        severities: Those of each.
        num_classes: Number of class folders that each must have.

    Raises:
        FileNotFoundError: If there is no such directory.
        ValueError: If severities, class folders or images are missing or too
            many; names them.
    """
    if image_places.is_tfds(directory):
        return
    layout.check_root(directory, _GROUPS)
    problems, names, are_shards = [], None, {}
    images, known = {}, {}
    for corruption in corruptions:
        folder = layout.folder_of(directory, corruption, _GROUPS)
        problem = layout.compare(
            folder,
            set(files.list_folders(folder)),
            set(map(str, severities)),
            "severities",
        )
        if problem:
            problems.append(problem)
            continue
        for severity in severities:
            place = os.path.join(folder, str(severity))
            found = set(files.list_folders(place))
            are_shards[place] = any(
                map(shards.parse_name, files.list_names(place))
            )
            if are_shards[place]:
                problems += [
                    f"{place!r} has shards, also {os.path.join(name, '')}"
                    for name in sorted(found)
                ]
                continue
            if names is None:
                names = _expected_names(place, found, num_classes)
            problem = layout.compare(place, found, names, "class folders")
            if problem:
                problems.append(problem)
            elif not files.is_remote(place):
                # Equal ones are kept once.
                own = _image_names(place)
                images[place] = known.setdefault(own, own)
    if len(set(are_shards.values())) > 1:
        one = [place for place, value in are_shards.items() if value]
        problems.append(
            f"shards in {first_names(one)}, class folders in the others"
        )
    layout.require_complete(directory, problems)
    wanted = layout.most_usual(images.values())
    problems = [
        layout.compare(place, found, wanted, "images")
        for place, found in images.items()
    ]
    layout.require_complete(directory, list(filter(None, problems)))


def _image_names(place):
    """Returns the images in class folders, `<class>/<name without ending>`."""
    names = (
        os.path.splitext(path)[0][len(place) + 1 :]
        for path in layout.walk(place)
    )
    return frozenset(name for name in names if os.sep in name)


def _expected_names(place, found, num_classes):
    """Returns the names that all sets must have, a set."""
    labels = class_names.imagenet_labels()
    if num_classes == len(labels) and found & set(labels):
        return set(labels)
    if len(found) != num_classes:
        raise ValueError(
            f"--label_data_dir: the network has {num_classes} classes, {place} "
            f"has {len(found)} class folders: "
            f"{first_names(sorted(found)) if found else 'none'}."
            f"{network_lib.background_hint(num_classes)}"
        )
    return found


def opener(config, network, place, flag):
    """Returns a function that opens the images of a place.

    Args:
        config: `benchmark.BenchmarkConfig`.
        network: `network.Network`.
        place: As `labeled_images.open_source` takes it.
        flag: The flag that names it, for messages.
    """
    from noisy_student.robustness import look

    num_classes = network.model_config.num_classes

    def open_images():
        source = look.open_images(
            network, place, split=config.eval_split, flag=flag
        )
        if source.num_classes not in (None, num_classes):
            raise ValueError(
                f"{source.origin}: {source.num_classes} classes, the network "
                f"has {num_classes}."
                f"{network_lib.background_hint(num_classes)}"
            )
        return source

    return open_images
