"""Methods of retraining a pruned network, one file for each family."""
