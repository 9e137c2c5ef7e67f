"""One step of each recurrent cell, written to be read beside its equations.

A step is a pure function of tensors, of any float type and on any device. It is differentiated by
plain autograd and names every intermediate value. The fast layers of rnn_lab.models.layers compute
the same and are held to it in the tests.

Weights are torch's, of one direction of one layer, as in `layer.all_weights`:

    weight_ih [gates * hidden, input]     the W of all gates, one on top of the other
    weight_hh [gates * hidden, hidden]    the U of all gates
    bias_ih, bias_hh [gates * hidden]     the b and the c of all gates

Papers and tutorials often join the state and the input, with one matrix and one bias a gate:
W' [h, x] + b'. That is the same thing: with W' = [U, W] and b' = b + c,

    W' [h, x] + b' = W x + b + U h + c

A batch holds one sequence a row, so that W x is `x @ W.T` here.
"""
