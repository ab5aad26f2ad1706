"""FP32 graph and scale table in, INT8 Q/DQ master graph out."""
