"""`python -m tests.bench.peers.sampled run …`: the allocator, whose stacks are counted meanwhile (see `sampling`)."""

from backorder_allocator.main import main
from tests.bench.peers import sampling

if __name__ == "__main__":
    sampling.begin()
    main()
