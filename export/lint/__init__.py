"""What TensorRT will say about a graph, said before it leaves the workstation."""
