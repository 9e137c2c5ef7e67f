"""RNN Lab: train and understand LSTM and GRU text classifiers."""
