"""Noisy Student Training: training, labelling and evaluation."""
