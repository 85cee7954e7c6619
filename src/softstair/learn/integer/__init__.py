"""The integers of a trained codec, and tables measured through the path that the product codes with."""
