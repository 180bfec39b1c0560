"""What z3 is asked: counterexamples, and which units a proof has to cut."""
