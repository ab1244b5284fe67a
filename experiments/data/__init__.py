"""From the name of a data set to minibatches of it for Keras."""
