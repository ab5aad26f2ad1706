"""TensorRT on the device: plans are built where they run, held against onnxruntime, and used if they passed."""
