"""What every test may use."""

pytest_plugins = ["tests.harness.requirements", "tests.harness.postgres", "tests.harness.player"]
