"""Reinforcement learning in the style of CrossQ: one joint forward pass.

A critic is trained towards `reward + discount * Q(s', a')`. The actions a of the data and a' of the
policy have different distributions, so with normalization two things go wrong: statistics of (s, a)
do not suit (s', a'), and a target network's averages suit neither. CrossQ (Bhatt et al. 2024)
passes both through the critic as *one* batch, which normalizes them with common statistics, moves
the averages once, and needs no target network. The gradient stops at Q(s', a').

Here the system is linear, the cost quadratic, and the policy fixed, so that the true Q is known:
`s' = 0.8 s + 0.5 a`, `reward = -(s^2 + 0.1 a^2)`, policy `a = -0.6 s`.
"""

import keras
import numpy as np
from keras import ops

import brn

DISCOUNT, STEPS, BATCH = 0.8, 800, 256


def act(s):
    """The policy that is evaluated."""
    return -0.6 * s


# Transitions of another policy, a random one, as in a replay buffer.
rng = np.random.default_rng(0)
s, a = rng.normal(size=(2, 20_000, 1))
following = 0.8 * s + 0.5 * a
reward = -(s**2 + 0.1 * a**2)
now = np.hstack([s, a]).astype("float32")
later = np.hstack([following, act(following)]).astype("float32")

keras.utils.set_random_seed(1)
r_max, d_max = brn.paper_clipping(total_steps=STEPS)
critic = keras.Sequential([keras.Input((2,))])
for _ in range(2):
    critic.add(keras.layers.Dense(64, use_bias=False))
    critic.add(brn.BatchRenormalization(r_max=r_max, d_max=d_max))
    critic.add(keras.layers.ReLU())
critic.add(keras.layers.Dense(1))

# Both halves through the critic at once; then Q(s, a) and Q(s', a') side by side.
inputs = [keras.Input((2,), name="now"), keras.Input((2,), name="later")]
joint = critic(keras.layers.Concatenate(axis=0)(inputs))
both = ops.transpose(ops.reshape(joint, (2, -1)))
trainer = keras.Model(inputs, both)


def temporal_difference(reward, both):
    """The squared error of Q(s, a) against the target, through which no gradient flows."""
    target = reward[:, 0] + DISCOUNT * ops.stop_gradient(both[:, 1])
    return ops.square(both[:, 0] - target)


trainer.compile(keras.optimizers.Adam(0.003), temporal_difference)
batches = rng.integers(len(s), size=(STEPS, BATCH)).reshape(-1)
data = ([now[batches], later[batches]], reward[batches].astype("float32"))
trainer.fit(*data, batch_size=BATCH, shuffle=False, verbose=0)

# Under the policy s' = 0.5 s, so the value of a state is -p s^2 with p as follows.
p = (1 + 0.1 * 0.6**2) / (1 - DISCOUNT * 0.5**2)
true_q = reward - DISCOUNT * p * following**2
predicted = critic.predict(now, batch_size=5000, verbose=0)
explained = 1 - np.var(true_q - predicted) / np.var(true_q)
steps = int(critic.layers[1].step)
print(f"{explained:.1%} of the variance of the true Q is explained after {steps} steps")
assert steps == STEPS  # the averages moved once a step, not twice
assert explained > 0.8
