"""Folders of pictures: what is to be done, what was done, and doing it, here or on a cluster."""
