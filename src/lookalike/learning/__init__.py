"""A similarity learned from labelled vectors, in numpy alone: vectors and labels in, a projection out.

    Examples    vectors, who shows the same, what is never torn apart     examples
    splitting   whole units on one side: train, validation, test          splitting
    linear      whitening within labels, refined by neighbours (NCA)      linear
    choosing    which vectors and which map, by cross-validation          choosing
    losses      the rise of a figure, paired, and whether it is a gain    gain
    advice      what the labels lack, before anything is learned          advice

No pictures, no files, no torch. What needs torch is in :mod:`lookalike.training`.
"""
