"""One run and many: networks, training, evaluation, processes, and what they ran on."""
