"""Inference without Keras or TensorFlow: the .onnx file, the Classifier that runs it, and occlusion maps."""
