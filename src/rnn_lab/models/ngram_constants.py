"""Constants of hashed n-grams: of the network in torch, and of its ONNX graph without torch."""

FIRST_WORD = 2  # ids below are padding and unknown words, which are part of no n-gram
PRIME, FACTOR = 2**31 - 1, 1_540_483_477  # products stay below 2**63
# Adam moves a weight by the learning rate in a step, whatever its feature's size. A feature of
# norm 10 lets the wide path reach the weights of a logistic regression in some hundred steps.
SCALE = 10.0
