"""What lookalike promises in numbers, measured: one command each, ``python -m benchmarks.NAME``.

    indexing      images a second against the limit of the machine and against peers; memory
    search        exact search against numpy and FAISS; the approximate index at a million vectors
    retrieval     recall of both encoders by all metrics on labelled real photos
    footprint     size of an install, cost of help, time to the first answer
    durability    what an acknowledged batch costs, and how many syncs it takes

A comparison is always of one run: the routes take turns, and the ratio is that of their medians.
"""
