"""auto_LiRPA: bounds that are guesses until the kernel has proved them."""
