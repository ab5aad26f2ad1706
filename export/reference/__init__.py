"""The reference models: definition, training, evaluation, packaging."""
