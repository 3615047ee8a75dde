"""Operations on the tags of a caption: pure functions, in one table that the tab, command line and recipes share."""

from lora_lab.tagging.operations.base import PLAIN, Context, Operation, OperationError, Option
from lora_lab.tagging.operations.table import OPERATIONS, from_json, from_texts

__all__ = ["OPERATIONS", "PLAIN", "Context", "Operation", "OperationError", "Option", "from_json", "from_texts"]
