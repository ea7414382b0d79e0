"""What pytest leaves alone."""

collect_ignore_glob = ["src/stormda/attention/kernels/*"]  # imports Triton
