"""What the contract tests must know about the example paper; they read it where `papers/` has the paper."""

from repose.testing import Facts

FACTS = {
    "example": Facts(experiment="example/tiny", sizes={"example/tiny": (43_889, 20.757e6)}, steps=400, lr=1e-2),
}
