"""A plain PyTorch MoleBLEND: the peer that moleblend is measured against, and a bridge for checkpoints.

Shape letters: B molecules, N atoms of the largest molecule of a padded batch, T = N + 1 tokens (the graph token first),
H heads, D width, d = D / H head width, F feed-forward width, K Gaussian kernels, L layers. Lengths are in angstrom.
"""
