"""The services in the matrix."""

from tests.faults.matrix import Subject
from tests.faults.matrix_allocator import ALLOCATOR
from tests.faults.matrix_notifier import NOTIFIER

SUBJECTS: tuple[Subject, ...] = (ALLOCATOR, NOTIFIER)
