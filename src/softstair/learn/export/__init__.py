"""From a trained codec to a bundle."""
