"""What happens to the pixels of one image; needs NumPy, Pillow and SciPy."""
