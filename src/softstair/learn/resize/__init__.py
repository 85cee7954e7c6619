"""What makes one network from another: narrower layers, fewer latents, blocks of another kind, detail."""
