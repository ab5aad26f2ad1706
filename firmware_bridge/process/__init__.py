"""A motor controller in a process of its own, so that a stalled program neither keeps motors alive nor starves them."""
