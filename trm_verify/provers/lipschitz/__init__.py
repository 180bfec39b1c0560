"""ℓ2 Lipschitz constants of the map from input to logits at the fixed point."""
