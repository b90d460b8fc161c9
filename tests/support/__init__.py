"""What tests share: fixtures' makers, simulated devices, and what fails on purpose."""
