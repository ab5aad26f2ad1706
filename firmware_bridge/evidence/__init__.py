"""Evidence that the C core keeps its promises: corrupted frames, fault sequences, fuzzing, mutants, coverage."""
