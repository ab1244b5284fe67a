"""A training loop of your own in PyTorch.

Run it with `KERAS_BACKEND=torch`. A Keras model is then a `torch.nn.Module`. What counts is the
argument `training` of the call, not `model.train()`: pass it, and call the model once for each
training step, which moves the averages and the count of steps.
"""

import keras
import numpy as np
import torch

import brn

assert keras.config.backend() == "torch"
device = "cuda" if torch.cuda.is_available() else "cpu"  # where Keras puts the weights, too
rng = np.random.default_rng(0)
x = torch.tensor(rng.normal(3.0, 2.0, (640, 4)), dtype=torch.float32, device=device)
y = x[:, :1] * x[:, 1:2]

keras.utils.set_random_seed(1)
r_max, d_max = brn.paper_clipping(total_steps=200)
normalization = brn.BatchRenormalization(momentum=0.9, r_max=r_max, d_max=d_max)
model = keras.Sequential(
    [keras.Input((4,)), keras.layers.Dense(32), normalization, keras.layers.ReLU()]
)
model.add(keras.layers.Dense(1))
# The averages are parameters without a gradient: leave them to the layer.
optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.01)

losses = []
for i in range(200):
    batch = slice(64 * i % 640, 64 * i % 640 + 64)
    loss = torch.mean((model(x[batch], training=True) - y[batch]) ** 2)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())

print(f"loss {losses[0]:.1f} -> {losses[-1]:.1f}, {int(normalization.step)} steps")
assert int(normalization.step) == 200
assert losses[-1] < losses[0] / 4
