"""What AlexNet gets wrong: the measure of ImageNet-C and ImageNet-P.

Source: Hendrycks and Dietterich, ICLR 2019, and their released figures.
"""

# Percent of ImageNet's validation images.
CLEAN_ERROR = 43.45

# Mean error over the five severities, in percent.
CORRUPTION_ERRORS = {
    "gaussian_noise": 88.6428,
    "shot_noise": 89.4468,
    "impulse_noise": 92.2640,
    "defocus_blur": 81.9880,
    "glass_blur": 82.6268,
    "motion_blur": 78.5948,
    "zoom_blur": 79.8360,
    "snow": 86.6816,
    "frost": 82.6572,
    "fog": 81.9324,
    "brightness": 56.4592,
    "contrast": 85.3204,
    "elastic_transform": 64.6056,
    "pixelate": 71.7840,
    "jpeg_compression": 60.6500,
}
EXTRA_CORRUPTION_ERRORS = {
    "speckle_noise": 84.5388,
    "gaussian_blur": 78.7108,
    "spatter": 71.7512,
    "saturate": 65.8248,
}

# Flip probability, in percent.
FLIP_RATES = {
    "gaussian_noise": 23.65,
    "shot_noise": 30.06,
    "motion_blur": 9.30,
    "zoom_blur": 5.94,
    "snow": 11.93,
    "brightness": 4.89,
    "translate": 11.01,
    "rotate": 13.10,
    "tilt": 7.05,
    "scale": 23.53,
}
