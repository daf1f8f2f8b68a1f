"""Reports in the shape that the robustness benchmarks write."""

import json


def write(folder, name, kind, **changes):
    """Writes a report; returns its path.

    Args:
        folder: Where to.
        name: Of the file, without its ending.
        kind: Which images.
        **changes: Keys to replace; None leaves one out.
    """
    report = {
        "kind": kind,
        "checkpoint": f"runs/{name}",
        "model_name": "efficientnet-l2_475",
        "image_size": 475,
        "stored_size": [224, 224],
        "figures": {},
        **changes,
    }
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.json"
    kept = {key: value for key, value in report.items() if value is not None}
    path.write_text(json.dumps(kept))
    return str(path)


def curve(*points):
    """Returns a curve of points (attack, epsilon, top_1)."""
    names = ("attack", "epsilon", "top_1")
    return [dict(zip(names, point)) for point in points]
