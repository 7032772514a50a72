"""The HTTP server: what is shipped, answered over a network. It needs neither Keras nor TensorFlow."""
