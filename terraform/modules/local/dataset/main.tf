# A dataset: a directory of this machine, which the audit mount alone opens. Nothing is made.
