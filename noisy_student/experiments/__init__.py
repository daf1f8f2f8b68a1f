"""The paper's findings at a size that two processor cores can train.

`arms.py` says what is compared, `stages.py` which commands that takes,
`runner.py` runs them, `findings.py` judges and `results.py` reports.
"""
