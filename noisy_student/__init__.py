"""Noisy Student Training: training, labelling and evaluation."""

# Selects Keras 2, before any module of ours imports TensorFlow.
import efficientnet  # noqa: F401
