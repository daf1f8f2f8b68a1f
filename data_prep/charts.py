"""Charts in the two themes of a page, kept as PNG files.

How a chart is drawn is the business of `plots`, which needs matplotlib.
"""

import dataclasses
import os

from absl import logging

from data_prep import files

INSTALL = "pip install 'noisy-student-training[plots]'"


@dataclasses.dataclass(frozen=True)
class Chart:
    """One chart in both themes.

    Attributes:
        about: Plain text: what the chart shows.
        light: PNG bytes, for a light background.
        dark: PNG bytes, for a dark background.
    """

    about: str
    light: bytes
    dark: bytes


def require_matplotlib():
    """Raises ValueError, which says what to install, without matplotlib."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ValueError(f"This needs matplotlib: {INSTALL}.") from error


class ChartFolder:
    """Draws charts, and keeps them as `<name>.png` and `<name>_dark.png`.

    Without matplotlib nothing is drawn, and a warning is logged.

    Args:
        directory: Where the PNG files go.
    """

    def __init__(self, directory):
        self._directory = directory
        try:
            from data_prep import plots
        except ImportError as error:
            logging.warning("The report has no charts: %s.", error)
            plots = None
        self._plots = plots

    def draw(self, charts):
        """Draws and writes charts.

        Args:
            charts: dict name -> (about, function of the module `plots` and a
                theme that returns PNG bytes).

        Returns:
            List of `Chart`; empty without matplotlib.
        """
        if self._plots is None:
            return []
        drawn = []
        for name, (about, draw) in charts.items():
            light = draw(self._plots, self._plots.LIGHT)
            dark = draw(self._plots, self._plots.DARK)
            for suffix, png in (("", light), ("_dark", dark)):
                path = os.path.join(self._directory, f"{name}{suffix}.png")
                files.write_bytes(path, png)
            drawn.append(Chart(about, light, dark))
        return drawn
