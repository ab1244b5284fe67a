"""Models that exist: their normalization layers found, swapped and given other statistics."""
