"""Tests of the constants of the corruptions, against the published ones."""

import pytest

from noisy_student.robustness.distortions import severities

# As published, without what is told by the algorithm; e is 244, s is 32.
IMAGENET = {
    "gaussian_noise": ".08 .12 .18 .26 .38",
    "shot_noise": "60 25 12 5 3",
    "impulse_noise": ".03 .06 .09 .17 .27",
    "speckle_noise": ".15 .2 .35 .45 .6",
    "gaussian_blur": "1 2 3 4 6",
    "glass_blur": "0.7,1,2 0.9,2,1 1,2,3 1.1,3,2 1.5,4,2",
    "defocus_blur": "3,0.1 4,0.5 6,0.5 8,0.5 10,0.5",
    "motion_blur": "10,3 15,5 15,8 15,12 20,15",
    "zoom_blur": "1.11,.01 1.16,.01 1.21,.02 1.26,.02 1.31,.03",
    "fog": "1.5,2 2,2 2.5,1.7 2.5,1.5 3,1.4",
    "frost": "1,.4,1 .8,.6,1 .7,.7,1 .65,.7,1 .6,.75,1",
    "snow": (
        ".1,.3,3,.5,10,4,.8 .2,.3,2,.5,12,4,.7 .55,.3,4,.9,12,8,.7 "
        ".55,.3,4.5,.85,12,8,.65 .55,.3,2.5,.85,12,12,.55"
    ),
    "spatter": (
        ".65,.3,4,.69,.6,0 .65,.3,3,.68,.6,0 .65,.3,2,.68,.5,0 "
        ".65,.3,1,.65,1.5,1 .67,.4,1,.65,1.5,1"
    ),
    "contrast": ".4 .3 .2 .1 .05",
    "brightness": ".1 .2 .3 .4 .5",
    "saturate": ".3,0 .1,0 2,0 5,.1 20,.2",
    "jpeg_compression": "25 18 15 10 7",
    "pixelate": ".6 .5 .4 .3 .25",
    "elastic_transform": (
        "488,170.8,24.4 488,19.52,48.8 12.2,2.44,4.88 17.08,2.44,4.88 "
        "29.28,2.44,4.88"
    ),
}
CIFAR = {
    "gaussian_noise": ".04 .06 .08 .09 .10",
    "shot_noise": "500 250 100 75 50",
    "impulse_noise": ".01 .02 .03 .05 .07",
    "speckle_noise": ".06 .1 .12 .16 .2",
    "gaussian_blur": ".4 .6 .7 .8 1",
    "glass_blur": ".05,1,1 .25,1,1 .4,1,1 .25,1,2 .4,1,2",
    "defocus_blur": ".3,.4 .4,.5 .5,.6 1,.2 1.5,.1",
    "motion_blur": "6,1 6,1.5 6,2 8,2 9,2.5",
    "zoom_blur": "1.06,.01 1.11,.01 1.16,.01 1.21,.01 1.26,.01",
    "fog": ".2,3 .5,3 .75,2.5 1,2 1.5,1.75",
    "frost": "1,.2,.2 1,.3,.2 .9,.4,.2 .85,.4,.2 .75,.45,.2",
    "snow": (
        ".1,.2,1,.6,8,3,.95 .1,.2,1,.5,10,4,.9 .15,.3,1.75,.55,10,4,.9 "
        ".25,.3,2.25,.6,12,6,.85 .3,.3,1.25,.65,14,12,.8"
    ),
    "spatter": (
        ".62,.1,.7,.7,.5,0 .65,.1,.8,.7,.5,0 .65,.3,1,.69,.5,0 "
        ".65,.1,.7,.69,.6,1 .65,.1,.5,.68,.6,1"
    ),
    "contrast": ".75 .5 .4 .3 .15",
    "brightness": ".05 .1 .15 .2 .3",
    "saturate": ".3,0 .1,0 1.5,0 2,.1 2.5,.2",
    "jpeg_compression": "80 65 58 50 40",
    "pixelate": ".95 .9 .85 .75 .65",
    "elastic_transform": (
        "0,0,2.56 1.6,6.4,2.24 2.56,1.92,1.92 3.2,1.28,1.6 3.2,.96,.96"
    ),
}


@pytest.mark.parametrize("name", sorted(IMAGENET))
@pytest.mark.parametrize(
    ("side", "published"), [(64, IMAGENET), (63, CIFAR)], ids=["large", "small"]
)
def test_constants_are_the_published_ones(side, published, name):
    rows = published[name].split()
    assert len(rows) == severities.NUM_SEVERITIES
    for severity, row in enumerate(rows, start=1):
        expected = [float(value) for value in row.split(",")]
        found = severities.arguments(name, severity, 200, side)
        assert found == pytest.approx(expected)


def test_the_tables_hold_the_15_corruptions_and_4_extras():
    names = severities.CORRUPTIONS + severities.EXTRA_CORRUPTIONS
    assert len(severities.CORRUPTIONS) == 15
    assert len(severities.EXTRA_CORRUPTIONS) == 4
    for table in (severities.LARGE, severities.SMALL, IMAGENET, CIFAR):
        assert set(table) == set(names)


@pytest.mark.parametrize(
    ("height", "width", "is_small"),
    [(63, 500, True), (500, 63, True), (64, 64, False), (32, 32, True)],
)
def test_the_shorter_side_decides_which_constants(height, width, is_small):
    assert severities.is_small(height, width) == is_small
