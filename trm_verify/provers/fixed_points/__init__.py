"""Where the fixed points of a box of inputs lie, and what is answered there (R5–R8)."""
