"""The paper's experiments: data, samplers, networks, the grid of runs, and what trains them."""
