"""What single questions need beyond accuracy: statistics in inference, clipping in `fit`."""
