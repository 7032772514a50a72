"""Data: loads images from files or arrays into a Dataset."""
