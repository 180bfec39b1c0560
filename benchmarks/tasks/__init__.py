"""Tiny recursive models on their tasks: what recursion buys, what the constraint costs, what is proved.

    python -m benchmarks.tasks [--tasks NAME …] [--variants NAME …] [--seeds 0 1 2] [--workers 2] [--quick] [--publish]

`jobs` says what is run, `job` is one (task, variant, seed) in a process of its own: `learn` trains and measures it,
`prove` certifies it, `solve` is for tasks whose model is a known method. `runner` runs the jobs that the ledgers do
not know yet, `floors` makes the table of what they found, `figures` the pictures.
"""
