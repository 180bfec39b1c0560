"""Fixed points under uncertain inputs: what is decided, how tightly and how fast, against what others do.

    python -m benchmarks.fixed_points --data DIR [--rows NAME …] [--images N] [--quick] [--publish]

DIR holds the models and images described in its README. Rows that need none of it run without.
"""
