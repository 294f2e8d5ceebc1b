"""Methods that the papers compare themselves with, each a paper of its own (SPM is a setting of `papers/pinet`)."""
